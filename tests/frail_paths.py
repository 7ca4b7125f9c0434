"""A family of one's own, with a task whose environment raises and one that pays without bounds."""

from __future__ import annotations

from typing import Any

import gymnasium as gym


class Path(gym.Env[int, int]):
    """Walk five fields, of which the last one pays, until the task's fate comes: in one episode and no other."""

    def __init__(self, fate: str) -> None:
        self.observation_space, self.action_space = gym.spaces.Discrete(5), gym.spaces.Discrete(2)
        self._fate, self._num_episodes = fate, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self._place, self._num_episodes = 2, self._num_episodes + 1
        return self._place, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self._place = min(max(self._place + 2 * int(action) - 1, 0), 4)
        if (self._fate, self._num_episodes) == ("raises", 7):
            raise ValueError("the path is washed away")
        is_unbounded = (self._fate, self._num_episodes) == ("unbounded", 2)
        return self._place, float("inf") if is_unbounded else float(self._place == 4), False, False, {}


class Paths:
    """Six tasks, of which four are harmless."""

    max_episode_steps = 10

    def tasks(self) -> list[dict[str, Any]]:
        return [{"fate": fate} for fate in ("raises", "unbounded", "a", "b", "c", "d")]

    def make(self, task: dict[str, Any]) -> gym.Env[int, int]:
        return Path(**task)
