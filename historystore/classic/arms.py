"""What bandit learners remember of their arms."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64

from historystore.classic.agent import Update


class Arms:
    """How often each learner pulled each arm, and what it earned there."""

    def __init__(self, *, num_learners: int, num_arms: int, update_interval: int) -> None:
        self._learners = np.arange(num_learners)
        self._interval = update_interval
        self.pulls: Int64[np.ndarray, "learners arms"] = np.zeros((num_learners, num_arms), np.int64)
        self.earned: Float64[np.ndarray, "learners arms"] = np.zeros((num_learners, num_arms))

    @property
    def means(self) -> Float64[np.ndarray, "learners arms"]:
        """What a pull earned on average, 0 for arms never pulled."""
        means: np.ndarray = self.earned / np.maximum(self.pulls, 1)
        return means

    def add(self, actions: Int64[np.ndarray, " learners"], rewards: Float[np.ndarray, " learners"]) -> None:
        """Note a pull of each learner."""
        self.pulls[self._learners, actions] += 1
        self.earned[self._learners, actions] += rewards

    def update(self, step: int) -> Update | None:
        """Return the mean of the arm that each learner prefers by now, once an interval."""
        if step % self._interval:
            return None
        favourite = self.pulls.argmax(axis=1)
        return Update({"train/favourite_mean": self.means[self._learners, favourite]}, None)
