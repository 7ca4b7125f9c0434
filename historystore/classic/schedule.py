"""How the share of random actions falls."""

from __future__ import annotations

import math
from dataclasses import dataclass

from historystore.classic.settings import NoisySettings, Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Epsilon at each step: constant within an interval, from `start` at step 0 to `final` at step `num_steps`."""

    start: float
    final: float
    num_steps: float
    interval: int
    shape: Shape = "linear"

    @classmethod
    def of(cls, settings: NoisySettings, *, num_steps: int) -> Schedule:
        """Return what settings say of a history of so many steps."""
        return cls(
            start=settings.epsilon_start,
            final=settings.epsilon_final,
            num_steps=settings.anneal_share * num_steps,
            interval=settings.update_interval,
            shape=settings.schedule,
        )

    @classmethod
    def constant(cls, epsilon: float, *, num_steps: int) -> Schedule:
        """Return an epsilon that never falls."""
        return cls(start=epsilon, final=epsilon, num_steps=float(num_steps), interval=num_steps)

    def epsilon(self, step: int) -> float:
        """Return epsilon at a step."""
        share = min(step // self.interval * self.interval / self.num_steps, 1.0)
        left = (1.0 - share) if self.shape == "linear" else 0.5 * (1.0 + math.cos(math.pi * share))
        return self.final + (self.start - self.final) * left
