"""`hist verify`: what it says, whole, and its exit codes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from store_samples import small_store

PAGES = Path(__file__).parent / "pages"


def hist(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hist_cli", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory.mktemp("whole") / "store").path


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "store")
    return tmp_path


def test_the_help_page_says_what_is_checked(tmp_path: Path) -> None:
    assert hist("verify", "--help", cwd=tmp_path).stdout == (PAGES / "verify-help.txt").read_text()


def test_a_whole_store_is_one_line_and_exit_code_0(folder: Path) -> None:
    answer = hist("verify", "store", cwd=folder)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout == "store: whole. Every file holds what was written to it.\n"


def test_a_note_is_told_and_is_no_problem(folder: Path) -> None:
    (folder / "store" / "notes.txt").write_text("mine")
    answer = hist("verify", "store", cwd=folder)
    assert answer.returncode == 0
    assert answer.stdout == (
        "note: notes.txt: is no part of the store.\nstore: whole. Every file holds what was written to it.\n"
    )


def test_each_problem_is_one_line_with_its_place_and_the_exit_code_is_1(folder: Path) -> None:
    (shard,) = (folder / "store" / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:100])
    document = folder / "store" / "store.json"
    document.write_bytes(document.read_bytes().replace(b"grid", b"griD"))
    answer = hist("verify", "store", cwd=folder)
    assert (answer.returncode, answer.stderr) == (1, "")
    first, second, third, verdict, rest = answer.stdout.split("\n")
    assert first == (
        "problem: store.json: does not hold what was written to it. "
        "Restore it from a copy, or from the header of any shard."
    )
    assert second == (
        f"problem: shards/{shard.name}: is not named by its SHA-256: it does not hold what was written to it. "
        "Restore it from a copy."
    )
    assert third.startswith(f"problem: shards/{shard.name}, header: cannot be read, ")
    assert (verdict, rest) == ("store: 3 problems.", "")


def test_json_is_alone_on_stdout(folder: Path) -> None:
    (folder / "store" / "index.arrow").write_bytes(b"no")
    answer = hist("verify", "store", "--json", cwd=folder)
    assert (answer.returncode, answer.stderr) == (1, "")
    message = "does not hold what was written to it. It is derived: delete it, and the next opening makes it anew."
    problem = {"file": "index.arrow", "field": None, "rows": None, "message": message, "is_note": False}
    assert json.loads(answer.stdout) == {
        "path": "store",
        "depth": "semantics",
        "is_whole": False,
        "problems": [problem],
    }


def test_a_depth_that_reads_no_step_says_so(folder: Path) -> None:
    answer = hist("verify", "store", "--depth", "structure", cwd=folder)
    assert (answer.returncode, answer.stdout) == (0, "store: sound in its structure. The steps were not read.\n")
    answer = hist("verify", "store", "--depth", "checksums", "--json", cwd=folder)
    assert json.loads(answer.stdout) == {"path": "store", "depth": "checksums", "is_whole": True, "problems": []}


def test_nothing_is_written(folder: Path) -> None:
    (folder / "store" / "index.arrow").unlink(missing_ok=True)
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    assert hist("verify", "store", cwd=folder).returncode == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("nowhere", "nowhere: there is nothing. Check the path; hist inspect lists the stores of a folder."),
        (".", ".: is no store, it has no store.json. Check the path; hist inspect lists those there."),
    ],
)
def test_what_is_no_store_is_one_line(tmp_path: Path, place: str, line: str) -> None:
    answer = hist("verify", place, cwd=tmp_path)
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", f"Error: {line}\n")
