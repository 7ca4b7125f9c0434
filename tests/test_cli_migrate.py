"""`hist migrate` as a user calls it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import historystore as hs

PAGE = Path(__file__).parent / "pages" / "migrate-help.txt"
OLD = Path(__file__).parent / "golden" / "0.1" / "grid" / "store"
NUM_BYTES = sum(shard.stat().st_size for shard in (OLD / "shards").iterdir())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def hist(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hist_cli", *args], capture_output=True, text=True, check=False)


def test_the_help_page_is_the_pinned_one() -> None:
    assert hist("migrate", "--help").stdout == PAGE.read_text()


def test_a_dry_run_says_what_it_would_write_and_changes_nothing(old: Path) -> None:
    digest = hs.open(old).digest
    answer = hist("migrate", str(old), "--dry-run")
    assert answer.stdout.splitlines() == [
        f"{old}: 0.1 -> 1.0 would write 3 shards of {NUM_BYTES:,} bytes anew",
        f"digest {digest}",
        f"next: hist migrate {old}",
    ]
    assert hs.open(old).document.format_version == "0.1"


def test_it_migrates_in_place_and_a_second_time_there_is_nothing_to_do(old: Path) -> None:
    digest = hs.open(old).digest
    answer = hist("migrate", str(old), "--json")
    assert answer.returncode == 0, answer.stderr
    step = {"from_version": "0.1", "to_version": "1.0", "num_shards": 3, "num_bytes": NUM_BYTES}
    assert json.loads(answer.stdout) == {"path": str(old), "is_dry_run": False, "steps": [step], "digest": digest}
    assert hist("verify", str(old)).returncode == 0
    again = hist("migrate", str(old))
    assert again.stdout.splitlines() == [f"{old}: is in format 1.0 already", f"digest {digest}"]


def test_what_is_no_store_is_one_line(tmp_path: Path) -> None:
    answer = hist("migrate", str(tmp_path))
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"Error: {tmp_path}: is no store, it has no store.json.")
    assert answer.stderr.count("\n") == 1
