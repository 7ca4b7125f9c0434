"""Gymnasium environments stepped one after another, as a batched environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import concatenate, create_empty_array
from jaxtyping import Bool, Float64, Shaped
from pydantic import JsonValue

from historystore.errors import InvalidValue
from historystore.tasks.protocol import Task


class LoopedEnvs:
    """One Gymnasium environment a task, without auto-reset.

    What an environment returns is handed on as it is: observations of a Dict space are one array a key. The state of
    environments that others wrote cannot be read, so `state` refuses; a family that makes these is not `is_batched`.
    """

    def __init__(
        self, make: Callable[[Mapping[str, JsonValue]], gym.Env[Any, Any]], tasks: Sequence[Mapping[str, JsonValue]]
    ) -> None:
        self.num_envs = len(tasks)
        self.tasks: tuple[Task, ...] = tuple(dict(task) for task in tasks)
        self._envs = [make(task) for task in tasks]
        self.observation_space: gym.Space[Any] = self._envs[0].observation_space
        self.action_space: gym.Space[Any] = self._envs[0].action_space
        self.source_observation_space: gym.Space[Any] | None = None
        self._obs: list[Any] = [None] * self.num_envs

    def source_observation(self) -> Any:
        """Return the observation: the source sees no more."""
        return self._stacked()

    def state(self) -> dict[str, np.ndarray]:
        """Refuse.

        Raises:
            InvalidValue: always.
        """
        raise InvalidValue(
            f"{self._envs[0]}: the state of such an environment cannot be saved, expected one of this package's own "
            "batched families. Begin a new episode instead."
        )

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Refuse, as `state` does."""
        self.state()

    def reset(
        self, mask: Bool[np.ndarray, " num_envs"] | None = None, *, seeds: Sequence[int | None] | None = None
    ) -> Any:
        """Start a new episode where `mask` is set (everywhere without one) and return every current observation."""
        where = range(self.num_envs) if mask is None else np.flatnonzero(mask).tolist()
        for index in where:
            self._obs[index], _ = self._envs[index].reset(seed=None if seeds is None else seeds[index])
        return self._stacked()

    def step(
        self, actions: Shaped[np.ndarray, num_envs * action]
    ) -> tuple[Any, Float64[np.ndarray, " num_envs"], Bool[np.ndarray, " num_envs"], Bool[np.ndarray, " num_envs"]]:
        """Step every environment; what comes after the end of an episode that was not reset is up to it."""
        results = [env.step(action) for env, action in zip(self._envs, actions, strict=True)]
        self._obs, rewards, terminated, truncated, _ = map(list, zip(*results, strict=True))
        # Some environments return a reward as an array of one number.
        rewards_array = np.array(rewards, dtype=np.float64).reshape(self.num_envs)
        return self._stacked(), rewards_array, np.array(terminated, dtype=bool), np.array(truncated, dtype=bool)

    def _stacked(self) -> Any:
        space = self.observation_space
        empty: Any = create_empty_array(space, self.num_envs)
        return concatenate(space, self._obs, empty)


class LoopedFamily:
    """What families over environments of others share: they step one after another, and nothing is known of them."""

    __slots__ = ()

    is_batched: ClassVar[bool] = False

    def make(self, task: Mapping[str, JsonValue]) -> gym.Env[Any, Any]:
        """Make the environment of a task."""
        raise NotImplementedError

    def make_batched(self, tasks: Sequence[Mapping[str, JsonValue]]) -> LoopedEnvs:
        """Make one environment for each entry of `tasks`, stepped one after another."""
        return LoopedEnvs(self.make, tasks)

    def best_return(self, task: Mapping[str, JsonValue]) -> None:
        """Return None: nobody has worked it out, and a registered reward threshold is not the best that can be had."""

    def random_return(self, task: Mapping[str, JsonValue]) -> None:
        """Return None: nobody has worked it out."""

    def draw_episode(
        self,
        task: Mapping[str, JsonValue],
        observations: Shaped[np.ndarray, time * shape],
        actions: Shaped[np.ndarray, time * action],
        rewards: Shaped[np.ndarray, " time"],
    ) -> None:
        """Return None: the steps themselves have to do."""
