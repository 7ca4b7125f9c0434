"""Upper confidence bounds on the means of a bandit's arms (UCB1: Auer, Cesa-Bianchi and Fischer, 2002)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Shaped

from historystore.classic.agent import Choice, Outcome, Update
from historystore.classic.arms import Arms
from historystore.classic.draws import Draws
from historystore.classic.settings import UcbSettings


class Ucb:
    """Pulls the arm of the highest `mean + coefficient * sqrt(2 ln t / pulls)`, each arm once before.

    Among equals it draws one, so that the order in which arms are tried tells nothing.
    """

    def __init__(self, settings: UcbSettings, generators: Sequence[np.random.Generator], *, num_actions: int) -> None:
        self._coefficient = settings.coefficient
        self._arms = Arms(num_learners=len(generators), num_arms=num_actions, update_interval=settings.update_interval)
        self._draws = Draws(generators, num_draws=num_actions)
        self._log_shares = np.array([0.0, *(-math.log(count) for count in range(1, num_actions + 1))])

    @property
    def num_bytes(self) -> int:
        """Next to nothing."""
        return 0

    def act(self, step: int, seen: Shaped[np.ndarray, "learners ..."]) -> Choice:
        """Choose among the arms of the highest bound."""
        arms = self._arms
        width = self._coefficient * np.sqrt(2.0 * math.log(max(step, 1)) / np.maximum(arms.pulls, 1))
        bounds = np.where(arms.pulls > 0, arms.means + width, np.inf)  # (learners, arms)
        is_best = bounds == bounds.max(axis=1, keepdims=True)
        lots = np.where(is_best, self._draws.next().T, -1.0)
        return Choice(lots.argmax(axis=1), self._log_shares[is_best.sum(axis=1)])

    def learn(self, actions: Int64[np.ndarray, " learners"], outcome: Outcome) -> None:
        """Note what the arms paid."""
        self._arms.add(actions, outcome.rewards)

    def update(self, step: int) -> Update | None:
        """Return what the learners believe of their favourite arm."""
        return self._arms.update(step)
