"""`hist train`: one command, again and again until it is done."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from toy_histories import write_bandits

from distill import TrainConfig, presets

TINY = (
    *("--updates", "20"),
    *(
        f"--set={setting}"
        for setting in (
            "context_length=20",
            "batch_size=8",
            "width=16",
            "heads=1",
            "layers=1",
            "feed_forward=32",
            "episode_stride=1",
            "checkpoint_every=5",
        )
    ),
)


def hist(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hist_cli", *map(str, args)]
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bandits(tmp_path_factory.mktemp("train") / "bandits").path


def test_a_run_is_trained_reported_and_then_complete(store: Path, tmp_path: Path) -> None:
    answer = hist("train", store, "--out", tmp_path / "run", *TINY)
    assert answer.returncode == 0, answer.stderr
    first, following = answer.stdout.splitlines()
    assert first.startswith(f"{tmp_path / 'run'}: 20 updates, loss ")
    assert following == f"next: hist evaluate {tmp_path / 'run'}"
    assert answer.stderr.startswith("20/20 updates  loss ")

    again = hist("train", store, "--out", tmp_path / "run", *TINY)
    assert again.stdout.splitlines()[0] == f"{tmp_path / 'run'}: is complete already."


def test_a_preset_gives_the_settings_that_no_option_names(store: Path, tmp_path: Path) -> None:
    options = ("--preset", "paper-bandit", "--updates", 1, "--set", "context_length=10", "--set", "batch_size=2")
    answer = hist("train", store, "--out", tmp_path / "run", *options, "--set", "feed_forward=32")
    assert answer.returncode == 0, answer.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["updates"], config["model"]["layout"], config["model"]["feed_forward"]) == (1, "three", 32)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_saves_and_the_same_command_goes_on(
    store: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    command = ["train", str(store), "--out", str(tmp_path / "run"), *TINY, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hist_cli", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    os.kill(process.pid, number)
    rest, error = process.communicate()
    updates = [json.loads(line)["update"] for line in [*lines, *rest.splitlines()]]
    assert process.returncode == code
    assert error == f"Interrupted: {tmp_path / 'run'} is saved. The same command goes on.\n"
    assert len(updates) < 20

    answer = hist(*command)
    events = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [event["update"] for event in events[:-1]] == list(range(updates[-1] + 1, 21))
    assert events[-1] == {"event": "complete", "run": str(tmp_path / "run"), "was_complete": False}


def test_mistakes_are_one_line(store: Path, tmp_path: Path) -> None:
    cases = {
        ("train", tmp_path / "gone", "--out", tmp_path / "run"): f"Error: {tmp_path / 'gone'}",
        ("train", store, "--out", tmp_path / "run", "--set", "lr=1"): "Error: lr: no such training setting.",
        ("train", store, "--out", tmp_path / "run", "--set", "lr"): "Error: --set: expected name=value, got 'lr'.",
        ("train", store, "--out", tmp_path / "run", "--preset", "p"): "Error: preset: there is no 'p', expected one of",
        ("train", store, "--out", store): f"Error: {store}: is no run and not empty. Choose another --out.",
    }
    for args, line in cases.items():
        answer = hist(*args, *TINY)
        assert answer.returncode == 1, answer.stderr
        assert answer.stderr.startswith(line)
        assert answer.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_help_teaches_and_is_pinned() -> None:
    page = hist("train", "--help").stdout
    assert page == (Path(__file__).parent / "help" / "train.txt").read_text()


def test_every_default_is_written_as_set_takes_it() -> None:
    page = hist("train", "--help").stdout
    rows = page[page.index("Settings for --set") :].splitlines()[1:]
    values = {row.split()[0]: row.split()[1] for row in rows if row.strip()}
    assert TrainConfig().with_values(values) == TrainConfig()
    assert all(f"\n    {name} " in page for name in presets())
    assert len(values) == len(TrainConfig.settings())
