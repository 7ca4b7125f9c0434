"""What `hist record` says, whole: its help page, its one-line refusals, its report."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import historystore
from historystore.fields import REQUIRED_FIELDS
from historystore.recording.algorithms import algorithms
from historystore.tasks import families, family

ROOT = Path(__file__).parent
TINY = ["--steps", "100", "--streams", "2", "--set", "n_steps=50", "--set", "batch_size=50", "--set", "n_epochs=1"]


def hist(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hist_cli", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def recording(*args: str, **options: str) -> list[str]:
    given = {"algo": "ppo", "env": "darkroom", "seeds": "0-1", **options}
    return ["record", *[part for name, value in given.items() for part in (f"--{name}", value)], *args]


def test_the_help_page_teaches_with_examples():
    page = (ROOT / "pages" / "record.txt").read_text()
    assert hist("record", "--help").stdout == page
    for name in (*families(), *algorithms()):
        assert re.search(rf"(^|[ ,]){name}($|[ ,])", page, re.MULTILINE), name


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("record --algo recurr", ["recurrent-ppo"]),
        ("record --env darkroom-", ["darkroom-hard", "darkroom-permuted"]),
        ("record --env Pend", ["Pendulum-v1"]),
        ("record --env nothing", []),
    ],
)
def test_the_shell_completes_names_of_worlds_and_learners(line, names):
    words = {"COMP_WORDS": f"hist {line}", "COMP_CWORD": "3", "_HIST_COMPLETE": "bash_complete"}
    script = Path(sys.executable).parent / "hist"
    answer = subprocess.run([script], env={**os.environ, **words}, capture_output=True, text=True, check=False)
    assert answer.stdout.split() == [f"plain,{name}" for name in names]


def test_checkpoints_asked_for_too_late_are_said_not_to_come(tmp_path):
    for seeds in ("0", "0-1"):
        asked = ["--checkpoints", "final"] if seeds == "0-1" else []
        answer = hist(*recording(*TINY, *asked, seeds=seeds), cwd=tmp_path)
        assert answer.returncode == 0, answer.stderr
    assert answer.stderr.splitlines()[2] == (
        "  1 of the complete learners have no checkpoint and get none; record them into another store for that"
    )
    again = hist(*recording(*TINY, "--checkpoints", "final", "--json"), cwd=tmp_path)
    assert json.loads(again.stdout.splitlines()[0])["num_without_checkpoint"] == 1


def test_a_recording_ends_with_the_store_its_digest_and_the_next_command(tmp_path):
    answer = hist(*recording(*TINY, "--workers", "1", "--checkpoints", "final", "--fields", "value"), cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    store = historystore.open(tmp_path / "darkroom-ppo")
    report = re.sub(r"\d+\.\d kB, \d+\.\d\d a step", "BYTES", answer.stdout)
    report = re.sub(r"in \d:\d\d:\d\d, [\d,]+ env-steps/s", "RATE", report)
    assert report == (
        "store     darkroom-ppo\n"
        f"digest    {store.digest}\n"
        "learners  2 complete, 0 partial, 0 failed\n"
        "steps     200\n"
        "bytes     BYTES\n"
        "recorded  200 steps RATE\n"
        "next      hist inspect darkroom-ppo\n"
    )
    assert answer.stderr == (
        "darkroom-ppo: 2 PPO learners on darkroom, 100 steps each over 2 streams\n"
        "  skips 0 (complete), retries 0 (partial or failed), adds 2; 1 worker\n"
    )
    assert {field.name for field in store.fields} == {*REQUIRED_FIELDS, "value"}
    checkpoints = {learner.row.checkpoint for learner in store.learners}
    assert {path.name for path in (tmp_path / "darkroom-ppo" / "checkpoints").iterdir()} == checkpoints
    again = hist(*recording(*TINY, "--quiet"), cwd=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert "recorded  nothing, all is complete\n" in again.stdout


def test_json_is_json_lines_alone_on_stdout_and_failures_are_exit_code_1(tmp_path):
    answer = hist(*recording(*TINY, "--json", "--set", "learning_rate=1e30", "--steps", "300", out=str(tmp_path / "s")))
    assert (answer.returncode, answer.stderr) == (1, "")
    plan, *progress, report = map(json.loads, answer.stdout.splitlines())
    assert (plan["event"], plan["num_added"], plan["learner"]["hyperparameters"]["learning_rate"]) == ("plan", 2, 1e30)
    assert {state["event"] for state in progress} == {"progress"}
    assert (progress[-1]["num_done"], progress[-1]["num_failed"]) == (2, 2)
    assert (report["event"], report["learners"]) == ("report", {"complete": 0, "partial": 0, "failed": 2})
    assert [failure["seed"] for failure in report["failures"]] == [0, 1]


def test_each_failed_learner_is_one_line_and_nothing_is_called_complete(tmp_path):
    failing = (*TINY, "-q", "--set", "learning_rate=1e30", "--steps", "300")
    answer = hist(*recording(*failing, seeds="4", out=str(tmp_path / "some")))
    assert answer.returncode == 1
    first, *errors = answer.stderr.splitlines()
    assert first == "1 learner failed; the same command tries again:"
    assert [error[:22] for error in errors] == ["  seed 4: ValueError: "]
    answer = hist(*recording(*failing, out=str(tmp_path / "some")))
    first, *errors = answer.stderr.splitlines()
    assert first == "2 learners failed; the same command tries again:"
    assert [error[:21] for error in errors] == ["  seed 0: ValueError:", "  seed 1: ValueError:"]
    assert "tensor([[nan" in errors[0]
    assert (errors[0].endswith(" ..."), len(errors[0]) < 260) == (True, True)


def test_where_workers_die_before_they_record_anything_nothing_is_called_complete(tmp_path):
    command = [sys.executable, "-m", "hist_cli", *recording("-q", "--steps", "10000000", seeds="0", out=str(tmp_path))]
    parent = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while parent.poll() is None:
        with suppress(psutil.NoSuchProcess):  # whoever is looked at may just have ended
            for worker in [worker for launcher in parent.children() for worker in launcher.children()]:
                if worker.create_time() < time.time() - 2.0:  # it is at its learner by now
                    worker.kill()
        time.sleep(0.1)
    report, errors = parent.communicate()
    assert parent.returncode == 1
    assert errors.startswith("1 learner failed; the same command tries again:\n  seed 0: not recorded: ")
    assert "learners  0 complete, 0 partial, 1 failed\n" in report
    assert "recorded  nothing\n" in report


@pytest.mark.parametrize(
    ("options", "extra", "code", "line"),
    [
        ({"seeds": "9-1"}, [], 1, "Error: seeds: a range goes from low to high, got 9-1. Write 1-9."),
        (
            {"env": "dim"},
            [],
            1,
            f"Error: env: nothing is called 'dim', expected one of {', '.join(families())}, a Gymnasium id such as "
            "CartPole-v1, or a class of your own such as my_package:MyFamily. Check the name.\n",
        ),
        (
            {},
            ["--set", "gamma"],
            1,
            "Error: --set: expected name=value, got 'gamma'. Write it like --set learning_rate=1e-3.",
        ),
        (
            {},
            ["--streams", "0"],
            1,
            "Error: --streams: expected a number above 0, got 0. Leave it out or choose a larger one.",
        ),
        ({"out": __file__}, [], 1, f"Error: {__file__}: "),
        ({"out": f"{__file__}/below"}, [], 1, f"Error: {__file__}/below"),
        ({"out": str(ROOT)}, [], 1, f"Error: {ROOT}: "),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_started(options, extra, code, line):
    answer = hist(*recording(*extra, "-q", **options))
    assert (answer.returncode, answer.stdout) == (code, "")
    assert answer.stderr.startswith(line)
    assert answer.stderr.count("\n") == 1


def test_a_store_of_other_spaces_is_refused_in_one_line(tmp_path):
    other = family("darkroom-hard")
    spaces = {"observation_space": other.observation_space, "action_space": other.action_space}
    historystore.create(tmp_path / "hard", family="darkroom-hard", **spaces)
    historystore.create(tmp_path / "odd", family="darkroom", **spaces)
    for name in ("hard", "odd"):
        answer = hist(*recording("-q", out=str(tmp_path / name)))
        assert (answer.returncode, answer.stdout) == (1, "")
        assert answer.stderr.startswith(f"Error: {tmp_path / name}: ")
        assert answer.stderr.count("\n") == 1


def test_what_must_be_given_is_asked_for_by_name():
    answer = hist("record", "--algo", "ppo")
    assert answer.returncode == 2
    assert "Missing option '--env'" in answer.stderr


def test_a_store_whose_empty_folder_of_shards_was_lost_is_recorded_into(tmp_path):
    room = family("darkroom")
    spaces = {"observation_space": room.observation_space, "action_space": room.action_space}
    historystore.create(tmp_path / "s", family="darkroom", **spaces)
    (tmp_path / "s" / "shards").rmdir()
    answer = hist(*recording(*TINY, "-q", out=str(tmp_path / "s")))
    assert answer.returncode == 0, answer.stderr
    assert set(historystore.open(tmp_path / "s").status_of().values()) == {"complete"}
