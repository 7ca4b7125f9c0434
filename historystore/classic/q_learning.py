"""Tabular Q-learning (Watkins and Dayan, 1992) of many learners at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float64, Int64, Shaped

from historystore.classic.agent import Choice, Outcome, Update
from historystore.classic.mixture import EPSILON, EpsilonGreedy
from historystore.classic.schedule import Schedule
from historystore.classic.settings import QLearningSettings
from historystore.classic.states import StateIndex


class QLearning:
    """Epsilon-greedy in a table that moves towards `r + gamma max_b Q(s', b)` by the learning rate.

    An episode that was cut (truncated) goes on as far as the table is concerned; one that ended (terminated) is worth
    nothing behind its end.
    """

    def __init__(
        self,
        settings: QLearningSettings,
        generators: Sequence[np.random.Generator],
        *,
        space: gym.Space[Any],
        num_actions: int,
        num_steps: int,
    ) -> None:
        self._settings = settings
        self._index = StateIndex.of(space)
        self._schedule = Schedule.of(settings, num_steps=num_steps)
        self._first_row = np.arange(len(generators)) * self._index.num_states
        self._num_actions = num_actions
        self._table = self._initial_table(generators)
        self._policy = EpsilonGreedy(generators, num_actions=num_actions, schedule=self._schedule)
        self._rows: Int64[np.ndarray, " learners"] = self._first_row
        self._errors = np.zeros(len(generators))

    def _initial_table(self, generators: Sequence[np.random.Generator]) -> Float64[np.ndarray, "rows actions"]:
        shape = (self._index.num_states, self._num_actions)
        noise = np.concatenate([generator.random(shape) for generator in generators])  # (learners * states, actions)
        table: np.ndarray = self._settings.initial_value + self._settings.initial_noise * noise
        return table

    @property
    def num_bytes(self) -> int:
        """What the table takes in memory."""
        return self._table.nbytes

    def act(self, step: int, seen: Shaped[np.ndarray, "learners ..."]) -> Choice:
        """Prefer the action of the highest value."""
        self._rows = self._first_row + self._index.of_values(seen)
        return self._policy.choose(step, self._table[self._rows].argmax(axis=1))

    def learn(self, actions: Int64[np.ndarray, " learners"], outcome: Outcome) -> None:
        """Move the value of what was done."""
        following = self._first_row + self._index.of_values(outcome.following)
        ahead = np.where(outcome.terminated, 0.0, self._table[following].max(axis=1))
        place = self._rows * self._num_actions + actions
        flat = self._table.reshape(-1)
        error = outcome.rewards + self._settings.gamma * ahead - flat[place]
        flat[place] += self._settings.learning_rate * error
        self._errors += np.abs(error)

    def update(self, step: int) -> Update | None:
        """Return the mean temporal-difference error of an interval, and the epsilon that acts from now on."""
        interval = self._schedule.interval
        if step % interval:
            return None
        errors, self._errors = self._errors / interval, np.zeros_like(self._errors)
        return Update({"train/td_error": errors, EPSILON: self._schedule.epsilon(step)}, self._settings.learning_rate)
