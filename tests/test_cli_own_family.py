"""A family from a module outside this repository, as a new user writes it from the README alone."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import historystore
from historystore.import_paths import make_reachable

ROOT = Path(__file__).parent
SECTION = (ROOT / "pages" / "own-worlds.md").read_text()
MODULE = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)[0]
COMMANDS = [shlex.split(line) for line in SECTION.splitlines() if line.startswith("hist ") and "corridor" in line]
SHORT = {
    "record": ["--steps", "800", "-q"],
    "train": ["--updates", "3", "-q"],
    "evaluate": ["--episodes", "2", "-q"],
}
"""What makes each of the README's commands short: the last of two equal options counts."""


def hist(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed script: unlike `python -m`, it does not put the current directory on the path."""
    script = Path(sys.executable).parent / "hist"
    return subprocess.run([script, *args], cwd=cwd, capture_output=True, text=True, check=False)


def test_the_readme_holds_the_section_that_is_run_here() -> None:
    assert SECTION in (ROOT.parent / "README.md").read_text()


def test_the_readmes_family_is_recorded_inspected_distilled_and_evaluated_as_it_says(
    tmp_path: Path,
) -> None:
    (tmp_path / "corridor.py").write_text(MODULE)
    assert [command[1] for command in COMMANDS] == ["record", "inspect", "train", "evaluate"]
    answers = {}
    for _, name, *args in COMMANDS:
        answers[name] = hist(name, *args, *SHORT.get(name, []), cwd=tmp_path)
        assert answers[name].returncode == 0, answers[name].stderr
    store = historystore.open(tmp_path / "corridor-Corridors-length-11-a2c")
    specs = [learner.spec for learner in store.learners]
    assert {(spec.family, spec.env_args["length"]) for spec in specs} == {("corridor:Corridors", 11)}
    assert sorted(spec.task["door"] for spec in specs) == list(range(11))
    assert all(learner.status == "complete" for learner in store.learners)
    assert "corridor:Corridors" in answers["inspect"].stdout


def test_a_store_of_such_a_family_is_read_without_the_module(tmp_path: Path) -> None:
    (tmp_path / "corridor.py").write_text(MODULE)
    recorded = hist(*COMMANDS[0][1:], *SHORT["record"], "--seeds", "0-1", cwd=tmp_path)
    assert recorded.returncode == 0, recorded.stderr
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(tmp_path / "corridor-Corridors-length-11-a2c", elsewhere / "s")
    (elsewhere / "corridor.py").write_text("raise SystemExit('imported')")
    learner = historystore.open(elsewhere / "s").learners[0].id
    for args in ([], ["--learner", learner], ["--learner", learner, "--episode", "0"], ["--json"]):
        answer = hist("inspect", "s", *args, cwd=elsewhere)
        assert (answer.returncode, answer.stderr) == (0, "")
    assert json.loads(answer.stdout)["family"] == "corridor:Corridors"
    assert hist("verify", "s", cwd=elsewhere).returncode == 0


def test_a_module_of_the_current_directory_never_hides_an_installed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    make_reachable("json")
    assert str(tmp_path) not in sys.path
    make_reachable("corridor.parts")
    assert sys.path[-1] == str(tmp_path)


CHATTER = """
import warnings

import gymnasium as gym

from corridor import Corridor

print("hello from a package")
warnings.warn("what you use is old")


def make(**kwargs):
    print("made one")
    warnings.warn("that is an odd environment")
    return Corridor(2, 5)


gym.register("Chatty-v0", make, max_episode_steps=5)
gym.register("Chatty-v1", make, max_episode_steps=5)
"""


def test_what_the_packages_of_others_say_stays_off_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "corridor.py").write_text(MODULE)
    (tmp_path / "chatty.py").write_text(CHATTER)
    asked = ["--algo", "a2c", "--env", "chatty:Chatty-v0", "--seeds", "0", "--steps", "20", "--json"]
    answer = hist("record", *asked, cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")
    events = [json.loads(line) for line in answer.stdout.splitlines()]
    assert events[0]["learner"]["family"] == "chatty:Chatty-v0"
    assert events[-1]["learners"] == {"complete": 1, "partial": 0, "failed": 0}


def test_a_mistake_in_the_module_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "corridor.py").write_text(MODULE.replace("def make(", "def made("))
    answer = hist(*COMMANDS[0][1:], cwd=tmp_path)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == (
        "Error: corridor:Corridors: the class lacks make(task), expected the methods of a family. Add what lacks, or "
        "name a Gymnasium id by its version, as in my_package:MyEnv-v0.\n"
    )
