"""Acting greedily, but at random in a share of the steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from historystore.classic.agent import Choice
from historystore.classic.draws import Draws
from historystore.classic.schedule import Schedule

EPSILON = "rollout/exploration_rate"
"""What Stable-Baselines3 calls epsilon in its logs."""


class EpsilonGreedy:
    """Takes the greedy action with probability `1 - epsilon + epsilon / num_actions`, all others with equal ones."""

    def __init__(self, generators: Sequence[np.random.Generator], *, num_actions: int, schedule: Schedule) -> None:
        self._num_actions = num_actions
        self._schedule = schedule
        self._draws = Draws(generators, num_draws=2)
        self._epsilon = 0.0
        self._log_greedy, self._log_other = 0.0, -math.inf

    def choose(self, step: int, greedy: Int64[np.ndarray, " learners"]) -> Choice:
        """Choose between the greedy action and a random one."""
        if step % self._schedule.interval == 0:
            self._set(self._schedule.epsilon(step))
        chance, which = self._draws.next()
        actions = np.where(chance < self._epsilon, (which * self._num_actions).astype(np.int64), greedy)
        return Choice(actions, np.where(actions == greedy, self._log_greedy, self._log_other))

    def _set(self, epsilon: float) -> None:
        self._epsilon = epsilon
        other = epsilon / self._num_actions
        self._log_greedy = math.log(1.0 - epsilon + other)
        self._log_other = math.log(other) if other else -math.inf
