"""`hist convert` as a user calls it."""

import json
import subprocess
import sys
from pathlib import Path

from store_samples import small_store

import historystore as hs

PAGE = Path(__file__).parent / "pages" / "convert-help.txt"


def hist(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hist_cli", *args], capture_output=True, text=True, check=False)


def test_the_help_page_is_the_pinned_one() -> None:
    assert hist("convert", "--help").stdout == PAGE.read_text()


def test_it_says_what_it_wrote_and_json_says_so_alone(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    out = tmp_path / "out"
    answer = hist("convert", str(store.path), str(out), "--format", "arrow", "--json")
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert (document["path"], document["digest"]) == (str(out), store.digest)
    assert document["num_bytes"] == hs.open(out).num_bytes
    answer = hist("convert", str(out), str(tmp_path / "back"), "--format", "hdf5", "--profile", "archive")
    assert answer.stdout.splitlines()[1:] == [f"digest {store.digest}", f"next: hist inspect {tmp_path / 'back'}"]


def test_a_profile_of_the_other_format_is_one_line(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    answer = hist("convert", str(store.path), str(tmp_path / "out"), "--format", "arrow", "--profile", "compat")
    assert answer.returncode == 1
    assert answer.stderr == ("Error: profile: an Arrow shard is fast or archive, got 'compat'. Choose one of those.\n")
