"""Showing what a policy does, an optimal or a trained one, with noise that falls (AD-eps) or holds still (experts)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Shaped

from historystore.classic.agent import Choice, Outcome, Update
from historystore.classic.guides import Guide
from historystore.classic.mixture import EPSILON, epsilon_mixture
from historystore.classic.schedule import Schedule
from historystore.classic.settings import ExpertSettings, NoiseSettings


class NoisyExpert:
    """Does what its guide does, but acts at random in a share epsilon of the steps.

    With an epsilon that falls from 1, a history improves as if somebody had learned it: noise distillation, or AD-eps
    (Zisman et al., "Emergence of In-Context Reinforcement Learning from Noise Distillation", arXiv 2312.12275). There,
    the noise falls with every step; here with every interval.
    """

    def __init__(
        self,
        settings: NoiseSettings | ExpertSettings,
        generators: Sequence[np.random.Generator],
        *,
        guide: Guide,
        action_space: gym.Space[Any],
        num_steps: int,
    ) -> None:
        self._guide = guide
        self._is_first = np.ones(len(generators), dtype=bool)
        must_find = isinstance(settings, NoiseSettings) and settings.must_find
        self._is_blind = np.full(len(generators), must_find)
        self._schedule = (
            Schedule.of(settings, num_steps=num_steps)
            if isinstance(settings, NoiseSettings)
            else Schedule.constant(settings.epsilon, num_steps=num_steps)
        )
        self._policy = epsilon_mixture(generators, space=action_space, schedule=self._schedule)

    @property
    def num_bytes(self) -> int:
        """What the guide holds in memory."""
        return self._guide.num_bytes

    def act(self, step: int, seen: Any) -> Choice:
        """Prefer what the guide does where everybody is."""
        return self._policy.choose(step, self._guide.actions(seen, self._is_first), self._is_blind)

    def learn(self, actions: Shaped[np.ndarray, "learners ..."], outcome: Outcome) -> None:
        """Learn nothing but where episodes begin, and, where it has to be found, that there is something to earn."""
        self._is_first = outcome.is_end
        self._is_blind &= outcome.rewards <= 0

    def update(self, step: int) -> Update | None:
        """Return the epsilon that acts from now on, where it changes."""
        if step % self._schedule.interval or self._schedule.start == self._schedule.final:
            return None
        return Update({EPSILON: self._schedule.epsilon(step)}, None)
