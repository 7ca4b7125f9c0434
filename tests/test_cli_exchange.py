"""`hist export` and `hist import`: what they say, whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from darkroom_learners import darkroom_store

import historystore as hs

PAGES = Path(__file__).parent / "pages"


def hist(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hist_cli", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exchange")
    darkroom_store(folder / "darkroom-ppo")
    return folder


@pytest.mark.parametrize("command", ["import", "export"])
def test_the_help_page_says_what_each_format_cannot_hold(command: str, tmp_path: Path) -> None:
    assert hist(command, "--help", cwd=tmp_path).stdout == (PAGES / f"{command}-help.txt").read_text()


def test_an_export_says_what_is_lost_what_turned_up_and_what_was_written(folder: Path) -> None:
    answer = hist("export", "darkroom-ppo", "out.hdf5", "--to", "xland", cwd=folder)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout == (PAGES / "export-xland.txt").read_text()


def test_a_way_out_and_back_ends_with_the_same_digest(folder: Path) -> None:
    pytest.importorskip("minari")
    out = hist("export", "darkroom-ppo", "darkroom-v0", "--to", "minari", "--json", cwd=folder)
    back = hist("import", "darkroom-v0", "back", "--from", "minari", "--json", cwd=folder)
    assert (out.returncode, out.stderr, back.returncode, back.stderr) == (0, "", 0, "")
    report = json.loads(back.stdout)
    assert {key: report[key] for key in report if key != "lost"} == {
        "source": "darkroom-v0",
        "target": "back",
        "format": "minari",
        "num_learners": 5,
        "num_skipped": 0,
        "num_steps": 2280,
        "notes": [],
    }
    assert len(report["lost"]) == 4
    assert hs.open(folder / "back").digest == hs.open(folder / "darkroom-ppo").digest
    again = hist("import", "darkroom-v0", "back", "--from", "minari", cwd=folder)
    assert again.stdout.splitlines()[-1] == (
        "darkroom-v0 -> back (minari): 0 learners, 0 steps, 5 skipped (there already)"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("import", "nowhere", "s", "--from", "dicp"), "nowhere: there is nothing to import. Check the path."),
        (
            ("export", "darkroom-ppo", "no id", "--to", "minari"),
            "no id: is no id of a Minari dataset, expected a name such as no-id-v0. Rename it.",
        ),
        (
            ("export", "nowhere", "out", "--to", "parquet"),
            "nowhere: there is no store here. Check the path; hist inspect lists the stores of a folder.",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], line: str, folder: Path) -> None:
    answer = hist(*arguments, cwd=folder)
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", f"Error: {line}\n")


def test_the_help_pages_load_neither_minari_nor_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.argv = ['hist', 'export', '--help']\nimport hist_cli\n"
        "try: hist_cli.main()\nexcept SystemExit: pass\n"
        "print([m for m in ('minari', 'torch', 'stable_baselines3', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
