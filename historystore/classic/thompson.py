"""Thompson sampling with Beta beliefs about the means of a bandit's arms (Thompson, 1933)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from historystore.classic.agent import Choice, Outcome, Update
from historystore.classic.arms import Arms
from historystore.classic.draws import Draws
from historystore.classic.settings import ThompsonSettings
from historystore.errors import InvalidValue

_NUM_POINTS = 256
_LEAST_BELOW = 1e-30
"""Below it a point adds nothing to a chance; it keeps divisions finite."""


class Thompson:
    """Pulls each arm as often as it believes that its mean is the highest.

    The usual way to do that is to draw a mean for each arm and to take the highest. Here the chances themselves are
    computed and one number decides, so that the recorded probability is the one that was acted by, and many learners
    draw at once. A reward of 1 is a success and one of 0 a failure; one between them is a part of both.

    Raises:
        InvalidValue: (while learning) a reward lies outside of [0, 1].
    """

    def __init__(
        self, settings: ThompsonSettings, generators: Sequence[np.random.Generator], *, num_actions: int
    ) -> None:
        num_learners = len(generators)
        self._prior = (settings.prior_successes, settings.prior_failures)
        self._draws = Draws(generators, num_draws=1)
        self._arms = Arms(num_learners=num_learners, num_arms=num_actions, update_interval=settings.update_interval)
        self._learners = np.arange(num_learners)
        self._beliefs = Beliefs((num_learners, num_actions), prior=self._prior)

    @property
    def num_bytes(self) -> int:
        """What it holds in memory."""
        return self._beliefs.num_bytes

    def act(self, step: int, seen: Shaped[np.ndarray, "learners ..."]) -> Choice:
        """Draw an arm by its chance of being the best."""
        chances = self._beliefs.chances()
        is_passed = self._draws.next()[0][:, None] >= chances.cumsum(axis=1)[:, :-1]  # (learners, arms - 1)
        actions = is_passed.sum(axis=1)
        return Choice(actions, np.log(chances[self._learners, actions]))

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
    """Beta distributions at the midpoints of `[0, 1]`; an arm's is computed again only when it was pulled.

    Arm `a` is the best with the chance `P(a) = int f_a(x) prod_{b != a} F_b(x) dx`, with the density `f` and the share
    below `F` of each belief: `sum_x f_a(x) / F_a(x) prod_b F_b(x)`, good to about 0.003 as long as a belief is wider
    than a point, for some thousands of pulls (`tests/test_classic_bandits.py`).
    """

    def __init__(self, shape: tuple[int, int], *, prior: tuple[float, float]) -> None:
        points = (np.arange(_NUM_POINTS) + 0.5) / _NUM_POINTS
        self._logs = np.log(points), np.log1p(-points)
        self._learners = np.arange(shape[0])
        self._below: Float64[np.ndarray, "learners arms points"] = np.empty((*shape, _NUM_POINTS))
        self._ratio = np.empty_like(self._below)
        successes, failures = (np.full(shape[0], value) for value in prior)
        for arm in range(shape[1]):
            self.set(np.full(shape[0], arm), successes, failures)

    @property
    def num_bytes(self) -> int:
        """What it holds in memory."""
        return self._below.nbytes + self._ratio.nbytes

    def set(
        self,
        arms: Int64[np.ndarray, " learners"],
        successes: Float64[np.ndarray, " learners"],
        failures: Float64[np.ndarray, " learners"],
    ) -> None:
        """Change what each learner believes of one arm."""
        logs = (successes[:, None] - 1.0) * self._logs[0] + (failures[:, None] - 1.0) * self._logs[1]
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))  # (learners, points)
        weights /= weights.sum(axis=1, keepdims=True)
        below = np.maximum(weights.cumsum(axis=1) - 0.5 * weights, _LEAST_BELOW)
        self._below[self._learners, arms] = below
        self._ratio[self._learners, arms] = weights / below

    def chances(self) -> Float64[np.ndarray, "learners arms"]:
        """Return how likely each arm is the best."""
        all_below = self._below.prod(axis=1)  # (learners, points)
        chances: np.ndarray = (self._ratio * all_below[:, None]).sum(axis=2)
        shares: np.ndarray = chances / chances.sum(axis=1, keepdims=True)
        return shares
