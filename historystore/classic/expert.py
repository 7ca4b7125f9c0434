"""Showing what an optimal policy does, with noise that falls (AD-eps) or holds still (experts)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int64, Shaped

from historystore.classic.agent import Choice, Outcome, Update
from historystore.classic.mixture import EPSILON, EpsilonGreedy
from historystore.classic.schedule import Schedule
from historystore.classic.settings import ExpertSettings, NoiseSettings


class NoisyExpert:
    """Does what is best, but acts at random in a share epsilon of the steps.

    With an epsilon that falls from 1, a history improves as if somebody had learned it: noise distillation, or AD-eps
    (Zisman et al., "Emergence of In-Context Reinforcement Learning from Noise Distillation", arXiv 2312.12275). There,
    the noise falls with every step; here with every interval.
    """

    def __init__(
        self,
        settings: NoiseSettings | ExpertSettings,
        generators: Sequence[np.random.Generator],
        *,
        best_actions: Callable[[], Int64[np.ndarray, " learners"]],
        num_actions: int,
        num_steps: int,
    ) -> None:
        self._best_actions = best_actions
        self._schedule = (
            Schedule.of(settings, num_steps=num_steps)
            if isinstance(settings, NoiseSettings)
            else Schedule.constant(settings.epsilon, num_steps=num_steps)
        )
        self._policy = EpsilonGreedy(generators, num_actions=num_actions, schedule=self._schedule)

    @property
    def num_bytes(self) -> int:
        """Next to nothing."""
        return 0

    def act(self, step: int, seen: Shaped[np.ndarray, "learners ..."]) -> Choice:
        """Prefer what is best where everybody is."""
        return self._policy.choose(step, self._best_actions())

    def learn(self, actions: Int64[np.ndarray, " learners"], outcome: Outcome) -> None:
        """Learn nothing."""

    def update(self, step: int) -> Update | None:
        """Return the epsilon that acts from now on, where it changes."""
        if step % self._schedule.interval or self._schedule.start == self._schedule.final:
            return None
        return Update({EPSILON: self._schedule.epsilon(step)}, None)
