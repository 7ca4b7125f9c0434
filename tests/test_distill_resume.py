"""A training that is broken off goes on as if nothing had happened."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_distill_training import config, weights
from toy_histories import write_bandits

from distill import TrainConfig, train
from historystore.errors import DamagedData

SETTINGS = {"updates": 24, "dropout": 0.1, "token_masking": 0.3, "ema_decay": 0.9, "checkpoint_every": 5}
TRAIN = """
import sys
from distill import TrainConfig, train
store, out, config = sys.argv[1:]
for progress in train(store, out, TrainConfig.model_validate_json(config)):
    print(progress.update, flush=True)
"""


def losses(path: Path) -> list[tuple[int, float]]:
    lines = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    return [(line["update"], line["loss"]) for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    mine, theirs = weights(one), weights(other)
    assert [name for name in mine if not mine[name].equal(theirs[name])] == []
    assert losses(one) == losses(other)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_bandits(folder / "bandits")
    list(train(folder / "bandits", folder / "run", config(**SETTINGS)))
    return folder


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_closing_the_generator_anywhere_loses_nothing(tmp_path: Path, undisturbed: Path, optimizer: str) -> None:
    settings = config(**SETTINGS, optimizer=optimizer)
    straight = undisturbed / "run" if settings.optimizer == config().optimizer else tmp_path / "straight"
    list(train(undisturbed / "bandits", straight, settings))
    done: list[int] = []
    while not done or done[-1] < 24:
        for progress in train(undisturbed / "bandits", tmp_path / "run", settings):
            done.append(progress.update)
            if progress.update in (1, 7, 13, 20):
                break
    assert done == list(range(1, 25))
    assert_same_run(tmp_path / "run", straight)


def test_a_killed_training_goes_on_bit_exactly(tmp_path: Path, undisturbed: Path) -> None:
    arguments = [str(undisturbed / "bandits"), str(tmp_path / "run"), config(**SETTINGS).model_dump_json()]
    process = subprocess.Popen([sys.executable, "-c", TRAIN, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 12:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert process.returncode == -signal.SIGKILL
    first = next(updates := train(undisturbed / "bandits", tmp_path / "run", config(**SETTINGS)))
    assert first.update in (11, 16, 21)
    list(updates)
    assert_same_run(tmp_path / "run", undisturbed / "run")


def test_a_kill_before_the_first_checkpoint_starts_again(tmp_path: Path, undisturbed: Path) -> None:
    updates = train(undisturbed / "bandits", tmp_path / "run", config(**SETTINGS))
    next(updates)
    (tmp_path / "run" / "metrics.jsonl").write_text('{"update": 1, "loss": 99.0}\n{"update": 2, "lo')
    del updates
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    list(train(undisturbed / "bandits", tmp_path / "run", config(**SETTINGS)))
    assert_same_run(tmp_path / "run", undisturbed / "run")


def test_a_damaged_checkpoint_is_named(tmp_path: Path, undisturbed: Path) -> None:
    updates = train(undisturbed / "bandits", tmp_path / "run", config(**SETTINGS))
    next(updates)
    updates.close()
    path = tmp_path / "run" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DamagedData, match=r"checkpoint.safetensors: cannot be read"):
        list(train(undisturbed / "bandits", tmp_path / "run", config(**SETTINGS)))


def test_the_settings_of_a_run_round_trip() -> None:
    settings = config(**SETTINGS)
    assert TrainConfig.model_validate_json(settings.model_dump_json()) == settings


LOG_MUCH = """
import resource, sys
from pathlib import Path
from distill.metrics import MetricsLog
from distill.progress import TrainProgress

progress = TrainProgress(update=1, num_updates=1, loss=0.5, learning_rate=0.1, tokens_per_s=9.0, validation=None)
with MetricsLog(Path(sys.argv[1]), update=0, is_writing=True) as log:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    for _ in range(1000):
        log.add(progress)
"""


def test_a_full_disk_under_the_metrics_is_told_with_their_path(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOG_MUCH, str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    expected = f"historystore.errors.WriteFailed: {tmp_path / 'metrics.jsonl'}: cannot be written, file too large."
    # TensorBoard's own thread may speak before or after.
    assert any(line.startswith(expected) for line in answer.stderr.splitlines())
