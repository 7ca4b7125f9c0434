"""`hist evaluate`: the table, the picture and the numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_distill_training import config
from toy_histories import write_darkroom

from distill import Evaluation, train

GOALS = [(x, y) for x in range(3, 6) for y in range(3)]


def hist(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hist_cli", *map(str, args)]
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    write_darkroom(folder / "store", GOALS)
    list(train(folder / "store", folder / "run", config(context_length=40, updates=3, validation_episodes=0)))
    return folder / "run"


def test_the_tables_show_test_and_training_tasks_the_source_and_the_bounds(run: Path) -> None:
    answer = hist("evaluate", run, "--episodes", 6, "--rollouts", 2, "--compare", run)
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[0].startswith("2 test tasks: mean return of the first 3 and the last 10 episodes")
    assert lines[1].split()[:3] == ["task", "first", "last"]
    assert lines[2].split()[0].startswith("goal=[")
    header = next(line for line in lines if line.split()[:1] == ["episode"])
    assert header.split() == ["episode", "AD,", "test", "AD,", "train", "run,", "test", "source", "random", "best"]
    assert [line.split()[0] for line in lines[lines.index(header) + 1 :][:6]] == ["1", "2", "3", "5", "6", "last"]
    numbers, plot = (line.split(maxsplit=1)[1] for line in lines[-2:])
    assert Evaluation.model_validate_json(Path(numbers).read_text()).num_episodes == 6
    assert Path(plot).read_bytes().startswith(b"\x89PNG")


def test_fresh_tasks_and_other_arguments_are_named_in_the_tables(run: Path) -> None:
    options = ("--fresh", 3, "--env-arg", "max_episode_steps=8", "--episodes", 2, "--rollouts", 1)
    answer = hist("evaluate", run, *options)
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[0].startswith("3 fresh tasks: mean return")
    title = "darkroom max_episode_steps=8, trained with defaults: return by episode in context"
    assert title in " ".join(answer.stdout.split())
    assert lines[-1].endswith("evaluation-fresh-max_episode_steps=8-seed0.png")


def test_a_run_on_a_single_task_says_why_nothing_is_held_out(tmp_path: Path) -> None:
    write_darkroom(tmp_path / "store", [(2, 3)])
    list(train(tmp_path / "store", tmp_path / "run", config(context_length=40, updates=1)))
    answer = hist("evaluate", tmp_path / "run", "--episodes", 2, "--rollouts", 1)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("1 train task: mean return")
    expected = (
        "Nothing is held out: there are no test tasks, for its stores hold a single task and that was trained on."
    )
    assert expected in answer.stdout.splitlines()


def test_json_is_alone_on_stdout_and_holds_every_episode(run: Path) -> None:
    answer = hist("evaluate", run, "--episodes", 4, "--rollouts", 3, "--json")
    document = json.loads(answer.stdout)
    assert len(document["test"]["return_by_episode"]) == 4
    assert len(document["train"]["return_by_episode"]) == 4
    assert document["validation"] is None
    assert [len(task["returns"]) for task in document["test"]["tasks"]] == [3] * 2
    assert Evaluation.model_validate(document).method == "ad"


def test_mistakes_are_one_line(run: Path, tmp_path: Path) -> None:
    cases = {
        (tmp_path,): (1, f"Error: {tmp_path}: is no run, it has no run.json. Give the --out of a hist train."),
        (tmp_path / "gone",): (1, f"Error: {tmp_path / 'gone'}: no such directory. Check the path"),
        (run, "--episodes", 0): (1, "Error: evaluation: needs at least 1 episode and rollout"),
        (run, "--seed", -1): (1, "Error: evaluation: seed is not a whole number from 0 up, got -1. Use one."),
        (run, "--fresh", 80): (1, f"Error: {run}: darkroom has 72 tasks that the run's stores do not hold"),
        (run, "--env-arg", "color=red"): (1, "Error: --env-arg: darkroom has no argument 'color', expected size"),
        (run, "--env-arg", "size"): (1, "Error: --env-arg: expected name=value, got 'size'."),
        (run, "--device", "toaster"): (1, "Error: device: cannot use 'toaster', "),
        (run, "--device", "cuda:99"): (1, "Error: device: cannot use 'cuda:99', "),
        (run, "--split", "all"): (2, "Error: Invalid value for '--split'"),
    }
    for args, (code, line) in cases.items():
        answer = hist("evaluate", *args)
        assert answer.returncode == code
        assert answer.stderr.startswith(line)
        assert answer.stderr.count("\n") == 1


def test_a_run_that_cannot_be_written_to_is_refused_before_the_work(run: Path) -> None:
    code = (
        "import errno, sys, tempfile, hist_cli\n"
        "def refuse(dir): raise OSError(errno.EROFS, 'Read-only file system', str(dir))\n"
        "tempfile.TemporaryFile = refuse\n"
        "sys.argv[0] = 'hist'\n"
        "hist_cli.main()"
    )
    command = [sys.executable, "-c", code, "evaluate", str(run), "--episodes", "1000000"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    expected = f"Error: {run}: cannot be written, read-only file system. Choose a place that can be written to.\n"
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", expected)


def test_help_teaches_and_is_pinned() -> None:
    page = hist("evaluate", "--help").stdout
    assert page == (Path(__file__).parent / "help" / "evaluate.txt").read_text()
