"""A learner that is killed goes on from its last checkpoint, and ends as if nothing had happened."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from batched_points import BatchedPoints
from sb3_contrib import QRDQN, TRPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import historystore
from historystore import tasks
from historystore.algebra import merge_stores
from historystore.checkpoints import checkpoint_path, file_digests, read_checkpoint, write_checkpoint
from historystore.compact import compact
from historystore.convert import convert
from historystore.errors import InvalidValue
from historystore.recording.vec_env import BatchedVecEnv
from historystore.recover import recover
from historystore.resumption import PROGRESS, sweep_checkpoints
from historystore.sb3 import HistoryRecorder, save_checkpoint
from historystore.verify import verify

torch.set_num_threads(1)
NUM_STEPS = 400
ROLLOUTS = {"n_steps": 16, "batch_size": 16, "n_epochs": 2}
REPLAY = {"learning_starts": 30, "batch_size": 8, "buffer_size": 180}


def ou_noise() -> OrnsteinUhlenbeckActionNoise:
    return OrnsteinUhlenbeckActionNoise(np.zeros(1), np.full(1, 0.2))


CASES: list[Any] = [
    pytest.param(PPO, ROLLOUTS, id="ppo"),
    pytest.param(PPO, ROLLOUTS | {"use_sde": True, "sde_sample_freq": 4}, id="ppo-sde"),
    pytest.param(A2C, {"learning_rate": lambda left: 1e-3 * left}, id="a2c-schedule"),
    pytest.param(DQN, REPLAY | {"target_update_interval": 30, "train_freq": 4}, id="dqn"),
    pytest.param(
        DQN,
        REPLAY | {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
        id="dqn-memory",
    ),
    pytest.param(SAC, REPLAY, id="sac"),
    pytest.param(SAC, REPLAY | {"use_sde": True, "train_freq": 8}, id="sac-sde"),
    pytest.param(TD3, REPLAY | {"learning_starts": 28, "action_noise": ou_noise}, id="td3-noise"),
    pytest.param(DDPG, REPLAY | {"train_freq": (3, "step")}, id="ddpg"),
    pytest.param(RecurrentPPO, ROLLOUTS | {"policy_kwargs": {"lstm_hidden_size": 8}}, id="recurrent-ppo"),
    pytest.param(TRPO, {"n_steps": 16, "batch_size": 16}, id="trpo"),
    pytest.param(QRDQN, REPLAY | {"target_update_interval": 30, "train_freq": 4}, id="qr-dqn"),
]


class Dies(BaseCallback):
    """Ends the learning at a step, as an exception does."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._at:
            raise KeyboardInterrupt
        return True


def built(kind: Any, settings: dict[str, Any], *, is_normalized: bool = False) -> Any:
    env: Any = BatchedVecEnv(BatchedPoints(2, is_discrete=kind in (DQN, QRDQN)))
    policy = "MlpLstmPolicy" if kind is RecurrentPPO else "MlpPolicy"
    settings = {name: value() if value is ou_noise else value for name, value in settings.items()}
    return kind(policy, VecNormalize(env) if is_normalized else env, seed=3, device="cpu", **settings)


def learn(
    path: Path | str,
    model: Any,
    *,
    checkpoints: str | None = "every=60",
    dies_at: int | None = None,
    num_steps: int = NUM_STEPS,
) -> historystore.Store:
    recorder = HistoryRecorder(path, family="points", checkpoints=checkpoints)
    try:
        model.learn(num_steps, callback=[recorder, Dies(sys.maxsize if dies_at is None else dies_at)])
    except KeyboardInterrupt:
        recorder.close()
    return historystore.open(path)


def checkpoints_of(path: Path) -> list[str]:
    return sorted(folder.name for folder in (path / "checkpoints").iterdir())


@pytest.mark.parametrize("is_normalized", [False, True])
@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_a_learner_that_died_twice_ends_as_if_undisturbed(
    tmp_path: Path, kind: Any, settings: dict[str, Any], is_normalized: bool
) -> None:
    undisturbed = learn(tmp_path / "a", built(kind, settings, is_normalized=is_normalized), checkpoints="final")
    out = tmp_path / "b"
    for dies_at in (150, 302, None):
        model = built(kind, settings, is_normalized=is_normalized)
        store = learn(out, model, dies_at=dies_at)
        (learner,) = store.learners
        assert [learner.row.checkpoint] == checkpoints_of(out)
    assert store.digest == undisturbed.digest
    assert learner.status == "complete"
    assert learner.row.continues is not None
    assert learner.row.continues.step >= 120
    assert learner.row.checkpoint == undisturbed.learners[0].row.checkpoint
    assert list(verify(out)) == []
    wall_time_s = learner.update_columns()["wall_time_s"]
    assert (np.diff(wall_time_s) >= 0).all()


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_keeping_checkpoints_changes_nothing(tmp_path: Path, kind: Any, settings: dict[str, Any]) -> None:
    digests, weights = [], []
    for name, checkpoints in (("a", None), ("b", "every=20")):
        model = built(kind, settings)
        digests.append(learn(tmp_path / name, model, checkpoints=checkpoints).digest)
        weights.append({key: value.tolist() for key, value in model.policy.state_dict().items()})
        weights[-1]["next"] = [torch.rand(1).item(), np.random.rand()]  # noqa: NPY002
    assert digests[0] == digests[1]
    assert weights[0] == weights[1]
    assert len(checkpoints_of(tmp_path / "b")) == 1


def test_a_learner_of_images_goes_on_exactly(tmp_path: Path) -> None:
    def sailor() -> Any:
        family = tasks.family("watermaze")
        env = BatchedVecEnv(family.make_batched([family.task_of_seed(0)]))
        return PPO("CnnPolicy", env, seed=3, device="cpu", **ROLLOUTS | {"n_steps": 32, "batch_size": 32})

    digest = learn(tmp_path / "a", sailor(), num_steps=128).digest
    learn(tmp_path / "b", sailor(), num_steps=128, dies_at=120)
    store = learn(tmp_path / "b", sailor(), num_steps=128)
    assert store.learners[0].row.continues.step == 64
    assert store.digest == digest


def cart_poles(*, seed: int | None = 3) -> Any:
    env = DummyVecEnv([lambda: gym.make("CartPole-v1") for _ in range(3)])
    return PPO("MlpPolicy", env, seed=seed, device="cpu", **ROLLOUTS)


def test_episodes_are_cut_where_environments_cannot_be_put_back(tmp_path: Path) -> None:
    undisturbed = learn(tmp_path / "a", cart_poles())
    digests = []
    for name in ("b", "c"):
        learn(tmp_path / name, cart_poles(), dies_at=250)
        before = historystore.open(tmp_path / name).learners[0]
        store = learn(tmp_path / name, cart_poles())
        digests.append(store.digest)
    (learner,) = store.learners
    step = 80  # of each stream: 240 steps, the last multiple of 60 before 250
    assert (learner.status, learner.row.continues.step) == ("complete", step - 1)
    assert learner.row.provenance.environment == "CartPole-v1, reset where an attempt continues another"
    assert digests[0] == digests[1] != undisturbed.digest
    assert list(verify(tmp_path / "c")) == []
    updates = learner.update_columns()
    assert updates["update"].tolist() == list(range(9))
    assert updates["step"].tolist() == list(range(16, 145, 16))
    num_cut = 0
    for history, old in zip(learner.histories, before.histories, strict=True):
        lived, known = history.read(0, step), old.read(0, step)
        assert (lived["truncated"] | lived["terminated"])[-1]
        num_cut += int(lived["truncated"][-1])
        for field in set(lived) - {"truncated"}:
            np.testing.assert_array_equal(lived[field], known[field])
        np.testing.assert_array_equal(lived["truncated"][:-1], known["truncated"][:-1])
        following = history.next_observations(step - 1, step)["observation"]
        np.testing.assert_array_equal(following, old.next_observations(step - 1, step)["observation"])
        first = history.read(step, step + 1)["observation"]
        assert (np.abs(first) < 0.05).all(), "an episode begins near the middle"
        assert step in history.episodes.first_step
        ends = (history.episodes.first_step + history.episodes.length).tolist()
        assert ends == [*history.episodes.first_step.tolist()[1:], history.num_steps]
    assert num_cut > 0


class SilentPoints(BatchedPoints):
    """Points that do not tell their state."""

    def state(self) -> dict[str, np.ndarray]:
        raise InvalidValue("points: cannot tell where they are.")


def test_batched_environments_that_cannot_tell_their_state_are_reset_with_other_seeds(tmp_path: Path) -> None:
    for dies_at in (150, 150, 302, None):
        model = SAC("MlpPolicy", BatchedVecEnv(SilentPoints(2)), seed=3, device="cpu", **REPLAY)
        store = learn(tmp_path / "s", model, checkpoints="every=44", dies_at=dies_at)
    (learner,) = store.learners
    # the first continuation cuts the episodes, the second one finds them cut, the third one is of a later checkpoint
    assert [row.continues and row.continues.step for row in learner.attempts()] == [None, 65, 66, 131]
    assert [row.provenance.environment for row in learner.attempts()] == [
        "SilentPoints",
        *["SilentPoints, reset where an attempt continues another"] * 3,
    ]
    for history in learner.histories:
        first = history.read(fields=["observation"])["observation"][history.episodes.first_step]
        assert len(np.unique(first, axis=0)) == len(first), "no episode begins as another one did"
    assert list(verify(tmp_path / "s")) == []


def test_a_model_without_a_seed_is_another_learner_each_time(tmp_path: Path) -> None:
    learn(tmp_path / "a", cart_poles(seed=None), dies_at=250)
    store = learn(tmp_path / "a", cart_poles(seed=None))
    assert sorted(store.status_of().values()) == ["complete", "partial"]


def test_a_damaged_or_deleted_checkpoint_lets_the_learner_begin_anew(tmp_path: Path) -> None:
    undisturbed = learn(tmp_path / "a", built(A2C, {}))
    for damage in ("flip", "delete", "move"):
        path = tmp_path / damage
        learn(path, built(A2C, {}), dies_at=150)
        (name,) = checkpoints_of(path)
        file = checkpoint_path(path, name) / PROGRESS
        if damage == "flip":
            file.write_bytes(file.read_bytes().replace(b'"pid":', b'"pid": '))
            with pytest.warns(
                UserWarning, match=f"checkpoints/{name}/{PROGRESS}: does not hold what was written to it"
            ):
                store = learn(path, built(A2C, {}))
        elif damage == "delete":
            shutil.rmtree(file.parent)
            store = learn(path, built(A2C, {}))
        else:
            shards = sorted((path / "shards").iterdir(), key=lambda shard: shard.stat().st_mtime_ns)
            shards[0].unlink()  # the steps before the checkpoint are lost
            store = learn(path, built(A2C, {}))
        (learner,) = store.learners
        assert (store.digest, learner.row.continues) == (undisturbed.digest, None)


def test_a_replay_buffer_of_objects_is_refused_before_the_first_step(tmp_path: Path) -> None:
    class Objects(ReplayBuffer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.notes = np.array([{} for _ in range(self.buffer_size)])

    model = built(DQN, REPLAY | {"replay_buffer_class": Objects})
    with pytest.raises(InvalidValue, match="checkpoints: Objects keeps objects in notes, which cannot be written"):
        learn(tmp_path / "s", model)
    assert historystore.open(tmp_path / "s").learners == ()


@pytest.mark.parametrize("checkpoints", ["every", "every=0", "every=-5", "last", ""])
def test_what_means_no_checkpoints_is_refused(tmp_path: Path, checkpoints: str) -> None:
    with pytest.raises(InvalidValue, match="checkpoints: expected 'final' or 'every=N' with a whole number of steps"):
        HistoryRecorder(tmp_path / "s", checkpoints=checkpoints)


def test_only_what_dead_processes_left_is_swept_away(tmp_path: Path) -> None:
    path = tmp_path / "s"
    store = learn(path, built(A2C, {}), dies_at=150)
    (name,) = checkpoints_of(path)
    document, files = read_checkpoint(path, name)
    own = save_checkpoint(store, built(A2C, {}))
    progress = json.loads(files[PROGRESS])
    others = {}
    for what, changes in {
        "living": {},
        "dead": {"pid": 2**22 + 1},
        "elsewhere": {"pid": 2**22 + 1, "host": "x"},
    }.items():
        changed = {**files, PROGRESS: json.dumps(progress | changes | {"step": 7}).encode()}
        made = document.model_copy(update={"files": file_digests(changed)})
        others[what] = write_checkpoint(path, made, changed)
    unfinished = path / "checkpoints" / ("0" * 64)
    unfinished.mkdir()
    (unfinished / f".{socket.gethostname()}-{2**22 + 1}-0123456789abcdef.tmp").write_bytes(b"half")
    sweep_checkpoints(store)
    assert set(checkpoints_of(path)) == {name, own, others["living"], others["elsewhere"]}


MOVES: dict[str, Callable[[Path, Path], Any]] = {
    "merge": lambda path, out: merge_stores([historystore.open(path)], out),
    "convert": lambda path, out: list(convert(path, out, format="arrow")),
    "recover": lambda path, out: list(recover(path, out)),
    "compact": lambda path, out: compact(shutil.copytree(path, out)),
}


@pytest.mark.parametrize("move", list(MOVES))
def test_a_store_that_is_moved_keeps_what_its_learners_go_on_from(tmp_path: Path, move: str) -> None:
    digest = learn(tmp_path / "undisturbed", built(DQN, REPLAY)).digest
    for dies_at in (150, 302):
        learn(tmp_path / "s", built(DQN, REPLAY), dies_at=dies_at)
    MOVES[move](tmp_path / "s", tmp_path / "moved")
    (before,) = historystore.open(tmp_path / "moved").learners
    assert list(verify(tmp_path / "moved")) == []
    store = learn(tmp_path / "moved", built(DQN, REPLAY))
    (learner,) = store.learners
    assert (learner.row.continues.attempt, learner.row.continues.step) == (before.row.attempt, 120)
    assert store.digest == digest
    MOVES[move](tmp_path / "moved", tmp_path / "again")
    assert historystore.open(tmp_path / "again").digest == digest
    assert list(verify(tmp_path / "again")) == []


def test_a_remote_learner_goes_on_and_keeps_one_checkpoint(tmp_path: Path, remote_folders: Path) -> None:
    digest = learn(tmp_path / "undisturbed", built(DQN, REPLAY)).digest
    for dies_at in (150, 302, None):
        store = learn("memory://bucket/points", built(DQN, REPLAY), dies_at=dies_at)
        (learner,) = store.learners
        names = {name for name in store.place.names("checkpoints") if store.place.names(f"checkpoints/{name}")}
        assert names == {learner.row.checkpoint}
    assert store.digest == digest
    assert learner.row.continues is not None


def test_inspect_shows_attempts_and_what_the_checkpoint_is_good_for(tmp_path: Path) -> None:
    def inspected(*options: str) -> str:
        command = [sys.executable, "-m", "hist_cli", "inspect", "s", "--learner", "seed=3", *options]
        answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return " ".join(answer.stdout.split())

    learn(tmp_path / "s", cart_poles(), dies_at=130)
    (learner,) = historystore.open(tmp_path / "s").learners
    page = inspected()
    assert "attempts" not in page
    assert f"checkpoint {learner.row.checkpoint}, goes on from step 32 " in page
    (learner,) = learn(tmp_path / "s", cart_poles()).learners
    page, facts = inspected(), json.loads(inspected("--json"))
    first, second = (f"{row.started[:16].replace('T', ' ')} on {row.provenance.host}" for row in learner.attempts())
    assert f"attempts from step 0 {first}, CartPole-v1 from step 31 {second}, CartPole-v1, reset where an" in page
    assert f"checkpoint {learner.row.checkpoint}, the model at the end " in page
    assert [(line["first_step"], line["status"]) for line in facts["attempts"]] == [(0, "partial"), (31, "complete")]
    assert facts["attempts"][-1]["attempt"] == facts["attempt"]
    assert facts["checkpoint_step"] is None
