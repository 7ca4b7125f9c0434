"""Points on a line that random pushes move, as batched environments that can tell their state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.seeding import np_random


class BatchedPoints:
    """Each point is pushed by its action and by chance; it is rewarded near zero, and gone far away from it."""

    source_observation_space = None

    def __init__(self, num_envs: int, *, is_discrete: bool = False) -> None:
        self.num_envs = num_envs
        self.tasks = tuple({"line": 0} for _ in range(num_envs))
        self.observation_space: gym.Space[Any] = gym.spaces.Box(-10, 10, (2,), np.float32)
        box = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.action_space: gym.Space[Any] = gym.spaces.Discrete(3) if is_discrete else box
        self._generators = [np_random(0)[0] for _ in range(num_envs)]
        self._positions = np.zeros((num_envs, 2))
        self._elapsed = np.zeros(num_envs, np.int64)

    def source_observation(self) -> np.ndarray:
        """Return nothing that differs: the source sees the observation."""
        return self._observation()

    def state(self) -> dict[str, np.ndarray]:
        """Return where the points and their generators are; a 128-bit number falls into two of 64."""
        words = []
        for generator in self._generators:
            state = generator.bit_generator.state
            numbers = (state["state"]["state"], state["state"]["inc"])
            words.append([part for number in numbers for part in (number >> 64, number % 2**64)])
        return {
            "positions": self._positions.copy(),
            "elapsed": self._elapsed.copy(),
            "generators": np.array(words, np.uint64),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to a state."""
        self._positions, self._elapsed = state["positions"].copy(), state["elapsed"].copy()
        for generator, words in zip(self._generators, state["generators"].tolist(), strict=True):
            numbers = {"state": (words[0] << 64) + words[1], "inc": (words[2] << 64) + words[3]}
            generator.bit_generator.state = {**generator.bit_generator.state, "state": numbers}

    def reset(self, mask: np.ndarray | None = None, *, seeds: Sequence[int | None] | None = None) -> np.ndarray:
        """Begin somewhere at random."""
        for index in range(self.num_envs) if mask is None else np.flatnonzero(mask).tolist():
            if seeds is not None and seeds[index] is not None:
                self._generators[index] = np_random(seeds[index])[0]
            self._positions[index] = self._generators[index].uniform(-1, 1, 2)
            self._elapsed[index] = 0
        return self._observation()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Push each point."""
        is_discrete = isinstance(self.action_space, gym.spaces.Discrete)
        push = np.asarray(actions) - 1.0 if is_discrete else np.asarray(actions)[:, 0]
        self._positions[:, 0] += 0.3 * push + [0.2 * generator.normal() for generator in self._generators]
        self._positions[:, 1] = push
        self._elapsed += 1
        distance = np.abs(self._positions[:, 0])
        return self._observation(), -distance, distance > 3, self._elapsed >= 13

    def _observation(self) -> np.ndarray:
        return self._positions.astype(np.float32)
