"""Recording changes nothing: with and without it the same seed ends in the same weights."""

from typing import Any

import numpy as np
import pytest
import torch
from known_env import KnownEnv
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import historystore
from historystore import tasks
from historystore.recording.vec_env import BatchedVecEnv
from historystore.sb3 import HistoryRecorder

torch.set_num_threads(1)
SETTINGS: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 16, "batch_size": 16},
    A2C: {},
    DQN: {"learning_starts": 20, "batch_size": 8, "target_update_interval": 30},
    SAC: {"learning_starts": 20, "batch_size": 8},
}


def weights(kind: Any, *, is_normalized: bool, callback: Any, num_envs: int = 2) -> dict[str, torch.Tensor]:
    actions = "box" if kind is SAC else "discrete"
    vec: Any = DummyVecEnv([lambda stream=stream: KnownEnv(stream, actions=actions) for stream in range(num_envs)])
    vec = VecNormalize(vec) if is_normalized else vec
    model = kind("MlpPolicy", vec, seed=7, device="cpu", **SETTINGS[kind])
    model.learn(200, callback=callback)
    state = dict(model.policy.state_dict())
    if is_normalized:
        state["mean"], state["var"] = torch.as_tensor(vec.obs_rms.mean), torch.as_tensor(vec.ret_rms.var)
    return state


def differences(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.mark.parametrize("is_normalized", [False, True])
@pytest.mark.parametrize("kind", [PPO, A2C, DQN, SAC])
def test_recorded_and_bare_learning_end_in_the_same_weights(tmp_path: Any, kind: Any, is_normalized: bool) -> None:
    bare = weights(kind, is_normalized=is_normalized, callback=None)
    recorder = HistoryRecorder(tmp_path / "s", checkpoints="final", fields=["value", "source_observation", "info/t"])
    assert differences(bare, weights(kind, is_normalized=is_normalized, callback=recorder)) == []


class DrawsOnce(BaseCallback):
    """A callback that is not neutral: it takes one number from a generator that the learner uses."""

    def _on_step(self) -> bool:
        if self.n_calls == 30:
            torch.rand(1)
        return True


def test_a_callback_that_is_not_neutral_is_seen() -> None:
    bare = weights(PPO, is_normalized=False, callback=None)
    assert differences(bare, weights(PPO, is_normalized=False, callback=DrawsOnce()))


@pytest.mark.parametrize("kind", [PPO, A2C, DQN])
def test_batched_environments_are_recorded_neutrally(tmp_path: Any, kind: Any) -> None:
    def learned(callback: Any) -> dict[str, torch.Tensor]:
        family = tasks.family("darkroom")
        env = BatchedVecEnv(family.make_batched([{"goal": [5, 4]}] * 4))
        model = kind("MlpPolicy", env, seed=7, device="cpu", **SETTINGS[kind])
        model.learn(90, callback=callback)
        model.learn(300, callback=callback, reset_num_timesteps=False)
        return dict(model.policy.state_dict())

    assert differences(learned(None), learned(HistoryRecorder(tmp_path / "s", family="darkroom"))) == []
    by_length = sorted(historystore.open(tmp_path / "s").learners, key=lambda learner: learner.spec.num_steps)
    first, second = by_length[0].histories[0], by_length[1].histories[0]
    assert first.num_steps % 20, "the second begins in the middle of an episode"
    end = first.final_observation(first.num_steps - 1)["observation"]
    np.testing.assert_array_equal(second.read(0, 1)["observation"][0], end)
