"""Each trap of Stable-Baselines3, against an environment of which every number is known.

`Naive` records as one would without knowing the trap; each test shows that its data are wrong where the recorder's are
right, so each test can fail.
"""

from typing import Any

import numpy as np
import pytest
import torch
from known_env import KnownEnv, assert_is_lived
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import historystore
from historystore.sb3 import HistoryRecorder

torch.set_num_threads(1)
SMALL: dict[type, dict[str, Any]] = {
    PPO: {"n_steps": 16, "batch_size": 16, "n_epochs": 2},
    A2C: {"n_steps": 5},
    DQN: {"buffer_size": 500, "learning_starts": 10, "batch_size": 8},
    SAC: {"buffer_size": 500, "learning_starts": 10, "batch_size": 8},
    TD3: {"buffer_size": 500, "learning_starts": 10, "batch_size": 8},
    DDPG: {"buffer_size": 500, "learning_starts": 10, "batch_size": 8},
}


class Naive(BaseCallback):
    """Keep what the callback is shown, by reference, and look at it when the learning is over."""

    def __init__(self) -> None:
        super().__init__()
        self.rewards: list[Any] = []
        self.next_obs: list[Any] = []
        self.actions: list[Any] = []
        self.finals: list[Any] = []

    def _on_step(self) -> bool:
        self.rewards.append(self.locals["rewards"])
        self.next_obs.append(self.locals["new_obs"])
        self.actions.append(self.locals.get("buffer_actions", self.locals["actions"]))
        self.finals += [info["terminal_observation"] for info in self.locals["infos"] if "terminal_observation" in info]
        return True


def learn(path: Any, kind: type, *, actions: str, num_envs: int, is_normalized: bool = False, steps: int = 96) -> Any:
    envs = [KnownEnv(stream, actions=actions) for stream in range(num_envs)]
    vec: Any = DummyVecEnv([lambda env=env: env for env in envs])
    vec = VecNormalize(vec) if is_normalized else vec
    naive = Naive()
    model = kind("MlpPolicy", vec, seed=3, policy_kwargs={"net_arch": [8]}, device="cpu", **SMALL[kind])
    model.learn(steps, callback=[naive, HistoryRecorder(path)])
    return [env.log for env in envs], naive, model


def naive_column(values: list[Any]) -> np.ndarray:
    return np.concatenate([np.asarray(value).reshape(-1) for value in values])


@pytest.mark.parametrize("kind", [PPO, A2C])
def test_the_time_limit_bootstrap_is_not_in_the_rewards(tmp_path: Any, kind: type) -> None:
    logs, naive, _ = learn(tmp_path / "s", kind, actions="discrete", num_envs=2)
    assert_is_lived(tmp_path / "s", logs)
    true = np.stack([[step.reward for step in log] for log in logs], axis=1).reshape(-1)
    cut = np.stack([[step.truncated and not step.terminated for step in log] for log in logs], axis=1).reshape(-1)
    wrong = ~np.isclose(naive_column(naive.rewards), true, rtol=1e-6)
    assert wrong.any()
    assert (wrong <= cut).all()


@pytest.mark.parametrize("kind", [PPO, A2C, DQN])
def test_the_observation_after_an_end_is_that_of_the_episode_that_ended(tmp_path: Any, kind: type) -> None:
    logs, naive, _ = learn(tmp_path / "s", kind, actions="discrete", num_envs=2)
    assert_is_lived(tmp_path / "s", logs)
    true = np.stack([np.stack([step.next_obs for step in log]) for log in logs], axis=1)  # (steps, streams, 3)
    ends = np.stack([[step.terminated or step.truncated for step in log] for log in logs], axis=1)
    differs = (np.stack(naive.next_obs) != true).any(axis=2)
    np.testing.assert_array_equal(differs, ends)


@pytest.mark.parametrize("kind", [PPO, A2C])
def test_a_clipped_action_is_recorded_as_executed_and_as_drawn(tmp_path: Any, kind: type) -> None:
    logs, naive, _ = learn(tmp_path / "s", kind, actions="box", num_envs=2)
    learner = assert_is_lived(tmp_path / "s", logs)
    raw = np.stack([history.read(0, history.num_steps)["raw_action"] for history in learner.histories], axis=1)
    action = np.stack([history.read(0, history.num_steps)["action"] for history in learner.histories], axis=1)
    np.testing.assert_array_equal(raw, np.stack(naive.actions))
    np.testing.assert_array_equal(action, np.clip(raw, -0.5, 3.5))
    assert (raw != action).any()


@pytest.mark.parametrize("kind", [SAC, TD3, DDPG])
def test_an_unscaled_action_is_recorded_as_executed_and_as_the_replay_buffer_has_it(tmp_path: Any, kind: type) -> None:
    logs, naive, _ = learn(tmp_path / "s", kind, actions="box", num_envs=1)
    learner = assert_is_lived(tmp_path / "s", logs)
    read = learner.histories[0].read(0, len(logs[0]))
    np.testing.assert_array_equal(read["raw_action"], np.concatenate(naive.actions))
    np.testing.assert_allclose(read["action"], 1.5 + 2.0 * read["raw_action"], atol=1e-5)
    assert (np.abs(read["raw_action"]) <= 1).all()
    assert (read["action"] != read["raw_action"]).all()


def test_the_log_probability_belongs_to_the_raw_action(tmp_path: Any) -> None:
    envs = [KnownEnv(stream, actions="box") for stream in range(2)]
    model = PPO("MlpPolicy", DummyVecEnv([lambda env=env: env for env in envs]), seed=3, n_steps=32, device="cpu")
    first = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    model.learn(64, callback=HistoryRecorder(tmp_path / "s"))
    model.policy.load_state_dict(first)
    (learner,) = historystore.open(tmp_path / "s").learners
    for history in learner.histories:
        read = history.read(0, 32)
        obs, raw, executed = (torch.as_tensor(read[name]) for name in ("observation", "raw_action", "action"))
        value, log_prob, _ = model.policy.evaluate_actions(obs, raw)
        np.testing.assert_allclose(read["log_prob"], log_prob.detach(), rtol=1e-5)
        np.testing.assert_allclose(read["value"], value.detach().ravel(), rtol=1e-4, atol=1e-6)
        assert not torch.allclose(model.policy.evaluate_actions(obs, executed)[1], log_prob)


@pytest.mark.parametrize(("kind", "actions"), [(PPO, "discrete"), (A2C, "box"), (DQN, "discrete"), (SAC, "box")])
def test_behind_vec_normalize_everything_is_the_original(tmp_path: Any, kind: type, actions: str) -> None:
    logs, naive, _ = learn(tmp_path / "s", kind, actions=actions, num_envs=2, is_normalized=True)
    assert_is_lived(tmp_path / "s", logs)
    rewards = np.stack([[step.reward for step in log] for log in logs], axis=1).reshape(-1)
    assert not np.isclose(naive_column(naive.rewards), rewards).any()
    steps = [log[t] for t in range(len(logs[0])) for log in logs]
    finals = [step.next_obs for step in steps if step.terminated or step.truncated]
    assert len(finals) == len(naive.finals) > 5
    assert all((normalized != true).any() for normalized, true in zip(naive.finals, finals, strict=True))


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_rewards_are_not_rounded_to_float32_and_both_flags_are_kept(tmp_path: Any, kind: type) -> None:
    logs, naive, _ = learn(tmp_path / "s", kind, actions="discrete", num_envs=1)
    learner = assert_is_lived(tmp_path / "s", logs)
    read = learner.histories[0].read(0, len(logs[0]))
    assert (read["reward"] != read["reward"].astype(np.float32)).any()
    assert (read["terminated"] & read["truncated"]).any()
    assert all(rewards.dtype == np.float32 for rewards in naive.rewards)
