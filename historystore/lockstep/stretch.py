"""What learners in lockstep live and learn between two looks of their recorder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from historystore.lockstep.population import Population
from historystore.lockstep.worlds import Trace

OnStep = Callable[[int], None]
"""Hears how many steps of each stream are done; may raise to end the learning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One update of every learner."""

    step: int
    """The per-stream step from which the new policies act."""
    logs: list[dict[str, float]]
    """What Stable-Baselines3's logger would hold after it, of each learner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Consecutive steps of every row, and the updates among and right after them."""

    trace: Trace
    updates: list[Update]


@runtime_checkable
class Run(Protocol):
    """Learners of one template, from their first step to their last."""

    population: Population
    num_steps: int
    """Steps of each stream so far."""

    @property
    def is_done(self) -> bool:
        """Whether they have lived all their steps."""
        ...

    def advance(self, on_step: OnStep) -> Stretch:
        """Live and learn some more."""
        ...

    def complete(self, model: Any, learner: int) -> None:
        """Give a Stable-Baselines3 model what only this algorithm has of a learner."""
        ...
