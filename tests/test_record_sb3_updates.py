"""Every update is recorded with what the logger held after it, the last one included."""

from typing import Any

import pytest
import torch
from known_env import KnownEnv
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

import historystore
from historystore.sb3 import HistoryRecorder

torch.set_num_threads(1)
CASES: list[Any] = [
    pytest.param(PPO, {"n_steps": 16, "batch_size": 16, "n_epochs": 3}, 2, 16, 5, id="ppo"),
    pytest.param(A2C, {"n_steps": 5, "learning_rate": lambda left: 1e-3 * left}, 2, 5, 15, id="a2c"),
    pytest.param(DQN, {"learning_starts": 10, "batch_size": 8, "train_freq": 4}, 1, 4, 36, id="dqn"),
    pytest.param(DQN, {"learning_starts": 9, "train_freq": (1, "episode")}, 1, None, None, id="episodes"),
]


class Dumps(BaseCallback):
    """Keep what each dump shows, as a recorder that listens to the logger's outputs would."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, float]] = []

    def _on_training_start(self) -> None:
        logger = self.model.logger
        dump = logger.dump
        logger.dump = lambda step=0: (self.seen.append(dict(logger.name_to_value)), dump(step))[1]  # type: ignore

    def _on_step(self) -> bool:
        return True


@pytest.mark.parametrize(("kind", "settings", "num_envs", "every", "count"), CASES)
def test_updates_equal_a_spy_on_train(
    tmp_path: Any, kind: Any, settings: dict[str, Any], num_envs: int, every: int | None, count: int | None
) -> None:
    envs = DummyVecEnv([lambda stream=stream: KnownEnv(stream) for stream in range(num_envs)])
    model = kind("MlpPolicy", envs, seed=1, device="cpu", **settings)
    train, spied = model.train, []

    def spy(*args: Any, **kwargs: Any) -> None:
        train(*args, **kwargs)
        spied.append((model.num_timesteps // num_envs, dict(model.logger.name_to_value)))

    model.train = spy
    dumps = Dumps()
    model.learn(150, callback=[dumps, HistoryRecorder(tmp_path / "s")])
    (learner,) = historystore.open(tmp_path / "s").learners
    rows = learner.updates().to_pylist()
    assert [row["step"] for row in rows] == [step for step, _ in spied]
    if every is not None:
        first = next(step for step, _ in spied)
        assert [row["step"] for row in rows] == [first + every * index for index in range(count or 0)]
    assert rows[-1]["step"] == learner.histories[0].num_steps
    for row, (_, values) in zip(rows, spied, strict=True):
        assert values_of(row) == {name: float(value) for name, value in values.items()}
        assert row["learning_rate"] == values["train/learning_rate"]
    last = {name: float(value) for name, value in spied[-1][1].items() if name.startswith("train/")}
    assert all(not last.items() <= seen.items() for seen in dumps.seen)


def values_of(row: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if "/" in name and value is not None}
