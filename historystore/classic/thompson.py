"""Thompson sampling with Beta beliefs about the means of a bandit's arms (Thompson, 1933)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from historystore.classic.agent import Choice, Outcome, Update
from historystore.classic.arms import Arms
from historystore.classic.settings import ThompsonSettings
from historystore.errors import InvalidValue

_NUM_POINTS = 256


class Thompson:
    """Draws a mean for each arm from what it believes, and pulls the arm of the highest.

    A reward of 1 is a success and one of 0 a failure; one between them is a part of both. How likely a pull was is an
    integral over the arm's belief, `P(a) = int f_a(x) prod_{b != a} F_b(x) dx`, taken at 256 midpoints: good to about
    0.001 for hundreds of pulls (`tests/test_classic_bandits.py`).

    Raises:
        InvalidValue: (while learning) a reward lies outside of [0, 1].
    """

    def __init__(
        self, settings: ThompsonSettings, generators: Sequence[np.random.Generator], *, num_actions: int
    ) -> None:
        num_learners = len(generators)
        self._prior = (settings.prior_successes, settings.prior_failures)
        self._generators = generators
        self._arms = Arms(num_learners=num_learners, num_arms=num_actions, update_interval=settings.update_interval)
        self._learners = np.arange(num_learners)
        self._beliefs = Beliefs((num_learners, num_actions), prior=self._prior)

    def act(self, step: int, seen: Shaped[np.ndarray, "learners ..."]) -> Choice:
        """Draw a mean for each arm and choose the highest."""
        successes = self._prior[0] + self._arms.earned
        failures = self._prior[1] + self._arms.pulls - self._arms.earned
        actions = np.array(
            [
                generator.beta(wins, losses).argmax()
                for generator, wins, losses in zip(self._generators, successes, failures, strict=True)
            ]
        )
        return Choice(actions, np.log(self._beliefs.chances(actions)))

    def learn(self, actions: Int64[np.ndarray, " learners"], outcome: Outcome) -> None:
        """Note what the arms paid."""
        if ((outcome.rewards < 0) | (outcome.rewards > 1)).any():
            raise InvalidValue(
                f"ThompsonSampling: expected rewards from 0 to 1, got {outcome.rewards.min()} to "
                f"{outcome.rewards.max()}. Use --algo ucb."
            )
        self._arms.add(actions, outcome.rewards)
        earned = self._arms.earned[self._learners, actions]
        pulls = self._arms.pulls[self._learners, actions]
        self._beliefs.set(actions, self._prior[0] + earned, self._prior[1] + pulls - earned)

    def update(self, step: int) -> Update | None:
        """Return what the learners believe of their favourite arm."""
        return self._arms.update(step)


class Beliefs:
    """Beta distributions at the midpoints of `[0, 1]`; an arm's is computed again only when it was pulled."""

    def __init__(self, shape: tuple[int, int], *, prior: tuple[float, float]) -> None:
        points = (np.arange(_NUM_POINTS) + 0.5) / _NUM_POINTS
        self._logs = np.log(points), np.log1p(-points)
        self._learners = np.arange(shape[0])
        first = self._weights(np.array([prior[0]]), np.array([prior[1]]))
        self._chance: Float64[np.ndarray, "learners arms points"] = np.broadcast_to(first, (*shape, _NUM_POINTS)).copy()
        self._below = self._chance.cumsum(axis=2) - 0.5 * self._chance  # (learners, arms, points)

    def set(
        self,
        arms: Int64[np.ndarray, " learners"],
        successes: Float64[np.ndarray, " learners"],
        failures: Float64[np.ndarray, " learners"],
    ) -> None:
        """Change what each learner believes of one arm."""
        weights = self._weights(successes, failures)
        self._chance[self._learners, arms] = weights
        self._below[self._learners, arms] = weights.cumsum(axis=1) - 0.5 * weights

    def chances(self, arms: Int64[np.ndarray, " learners"]) -> Float64[np.ndarray, " learners"]:
        """Return how likely each learner is to pull that arm."""
        others = self._below.copy()
        others[self._learners, arms] = 1.0
        chances: np.ndarray = (self._chance[self._learners, arms] * others.prod(axis=1)).sum(axis=1)
        return chances

    def _weights(
        self, successes: Float64[np.ndarray, " n"], failures: Float64[np.ndarray, " n"]
    ) -> Float64[np.ndarray, "n points"]:
        """Return each point's share of the density."""
        logs = (successes[:, None] - 1.0) * self._logs[0] + (failures[:, None] - 1.0) * self._logs[1]
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        shares: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
        return shares
