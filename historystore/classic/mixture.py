"""Doing what is preferred, but something at random in a share of the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Int64, Shaped

from historystore.classic.agent import Choice
from historystore.classic.draws import Draws
from historystore.classic.schedule import Schedule
from historystore.errors import InvalidValue

Blind: TypeAlias = Bool[np.ndarray, " learners"] | bool
EPSILON = "rollout/exploration_rate"
"""What Stable-Baselines3 calls epsilon in its logs."""


@runtime_checkable
class Mixture(Protocol):
    """Chooses between what is preferred and something at random."""

    def choose(self, step: int, greedy: Shaped[np.ndarray, "learners ..."], is_blind: Blind = False) -> Choice:
        """Choose for each learner; the blind act at random whatever epsilon is."""
        ...


class EpsilonGreedy:
    """Takes the greedy action with probability `1 - epsilon + epsilon / num_actions`, all others with equal ones."""

    def __init__(self, generators: Sequence[np.random.Generator], *, num_actions: int, schedule: Schedule) -> None:
        self._num_actions = num_actions
        self._schedule = schedule
        self._draws = Draws(generators, num_draws=2)
        self._epsilon = 0.0
        self._log_greedy, self._log_other = 0.0, -math.inf

    def choose(self, step: int, greedy: Int64[np.ndarray, " learners"], is_blind: Blind = False) -> Choice:
        """Choose between the greedy action and a random one."""
        if step % self._schedule.interval == 0:
            self._set(self._schedule.epsilon(step))
        chance, which = self._draws.next()
        is_random = (chance < self._epsilon) | is_blind
        actions = np.where(is_random, (which * self._num_actions).astype(np.int64), greedy)
        log_probs = np.where(actions == greedy, self._log_greedy, self._log_other)
        return Choice(actions, np.where(is_blind, -math.log(self._num_actions), log_probs))

    def _set(self, epsilon: float) -> None:
        self._epsilon = epsilon
        other = epsilon / self._num_actions
        self._log_greedy = math.log(1.0 - epsilon + other)
        self._log_other = math.log(other) if other else -math.inf


class EpsilonUniform:
    """Takes the preferred action with probability `1 - epsilon`, else one drawn uniformly from all of a bounded Box.

    Part of that distribution is a point and part a density, so no probability is given.
    """

    def __init__(self, generators: Sequence[np.random.Generator], *, space: gym.spaces.Box, schedule: Schedule) -> None:
        self._space = space
        self._schedule = schedule
        self._draws = Draws(generators, num_draws=1 + math.prod(space.shape))

    def choose(self, step: int, greedy: Shaped[np.ndarray, "learners ..."], is_blind: Blind = False) -> Choice:
        """Choose between the preferred action and a random one."""
        low, high = self._space.low, self._space.high
        chance, *which = self._draws.next()
        shares = np.stack(which, axis=-1).reshape(len(chance), *self._space.shape)  # (learners, *action)
        uniform = (low + shares * (high - low)).astype(self._space.dtype)
        is_random = (chance < self._schedule.epsilon(step)) | is_blind
        return Choice(np.where(is_random.reshape(-1, *(1 for _ in self._space.shape)), uniform, greedy), None)


def epsilon_mixture(generators: Sequence[np.random.Generator], *, space: gym.Space[Any], schedule: Schedule) -> Mixture:
    """Return how chance is mixed into actions of a space.

    Raises:
        InvalidValue: the space is neither Discrete nor a bounded Box of floats.
    """
    if isinstance(space, gym.spaces.Discrete):
        return EpsilonGreedy(generators, num_actions=int(space.n), schedule=schedule)
    if isinstance(space, gym.spaces.Box) and space.is_bounded() and np.issubdtype(space.dtype, np.floating):
        return EpsilonUniform(generators, space=space, schedule=schedule)
    raise InvalidValue(
        f"noise: expected Discrete actions or a bounded Box of floats, got {space}. Use an algorithm that learns, such "
        "as --algo ppo."
    )
