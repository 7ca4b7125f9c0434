"""Environments of which every number is known: what they showed and were given is in their own log."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

import historystore

ENDS = ((True, False), (False, True), (True, True))
"""How episodes end, in turn: (terminated, truncated)."""
LENGTHS = (4, 6, 3, 5)
"""How long they are, in turn."""
SPACES = {
    "box": gym.spaces.Box(-0.5, 3.5, (2,), np.float32),
    "discrete": gym.spaces.Discrete(3),
    "multi": gym.spaces.MultiDiscrete([3, 2]),
    "binary": gym.spaces.MultiBinary(3),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """One step, as the environment itself saw it."""

    obs: Any
    action: Any
    reward: float
    terminated: bool
    truncated: bool
    next_obs: Any


class KnownEnv(gym.Env[Any, Any]):
    """Show (stream, episode, step) and pay a number that float32 cannot hold.

    Step t of episode e is over after `LENGTHS[e % 4]` steps, in the way of `ENDS[e % 3]`, and pays
    `0.1 + 1000 * stream + e + t / 7 + sum(action) / 3`.
    """

    def __init__(self, stream: int = 0, *, actions: str = "discrete", layout: str = "vector", task: Any = None) -> None:
        self.stream, self.layout = stream, layout
        self.action_space = SPACES[actions]
        self.observation_space = _space(layout)
        self.episode, self.t = -1, 0
        self.log: list[Lived] = []
        if task is not None:
            self.task = task

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        before = self._shown()
        reward = reward_of(self.stream, self.episode, self.t, action)
        self.t += 1
        is_over = self.t == LENGTHS[self.episode % 4]
        terminated, truncated = ENDS[self.episode % 3] if is_over else (False, False)
        after = self._shown()
        self.log.append(
            Lived(
                obs=before,
                action=np.array(action),
                reward=reward,
                terminated=terminated,
                truncated=truncated,
                next_obs=after,
            )
        )
        return after, reward, terminated, truncated, {"t": self.t}

    def lived(self) -> list[Lived]:
        return self.log

    def _shown(self) -> Any:
        return observation_of(self.layout, self.stream, self.episode, self.t)


def reward_of(stream: int, episode: int, t: int, action: Any) -> float:
    return 0.1 + 1000 * stream + episode + t / 7 + float(np.sum(action)) / 3


def observation_of(layout: str, stream: int, episode: int, t: int) -> Any:
    numbers = np.array([stream, episode, t], dtype=np.float32)
    if layout == "vector":
        return numbers
    if layout == "discrete":
        return np.int64(t)
    image = np.zeros((36, 40, 3), dtype=np.uint8)
    image[stream + 1, 3, 0], image[5, episode % 40, 1], image[7, t, 2] = 50 + stream, episode % 250, t + 1
    return image if layout == "image" else {"image": image, "vector": numbers, "t": np.int64(t)}


def _space(layout: str) -> gym.spaces.Space[Any]:
    vector = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    image = gym.spaces.Box(0, 255, (36, 40, 3), np.uint8)
    steps = gym.spaces.Discrete(10)
    spaces = {"vector": vector, "image": image, "discrete": steps}
    return spaces.get(layout) or gym.spaces.Dict({"image": image, "vector": vector, "t": steps})


def assert_is_lived(path: Any, logs: list[list[Lived]], *, has_both_flags: bool = True) -> Any:
    """Check that a store's one learner lived exactly what the environments' logs say; return it."""
    store = historystore.open(path)
    (learner,) = store.learners
    for history, log in zip(learner.histories, logs, strict=True):
        assert history.num_steps == len(log)
        assert_steps_are(history, log, has_both_flags=has_both_flags)
    return learner


def assert_steps_are(history: Any, log: list[Lived], *, has_both_flags: bool) -> None:
    read = history.read(0, len(log))
    following = history.next_observations(0, len(log))
    same(read, "observation", [step.obs for step in log])
    same(following, "observation", [step.next_obs for step in log])
    np.testing.assert_array_equal(read["action"], [step.action for step in log])
    assert read["reward"].dtype == np.float64
    np.testing.assert_array_equal(read["reward"], [step.reward for step in log])
    np.testing.assert_array_equal(read["terminated"], [step.terminated for step in log])
    cut = [step.truncated and (has_both_flags or not step.terminated) for step in log]
    np.testing.assert_array_equal(read["truncated"], cut)


def same(columns: Any, prefix: str, expected: list[Any]) -> None:
    if isinstance(expected[0], dict):
        for key in expected[0]:
            same(columns, f"{prefix}/{key}", [obs[key] for obs in expected])
        return
    assert columns[prefix].dtype == expected[0].dtype
    np.testing.assert_array_equal(columns[prefix], np.stack(expected))
