"""What the engine asks of an algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Shaped


class Choice(NamedTuple):
    """What each learner does, and the logarithm of how likely it was to do that (None where that is no number)."""

    actions: Shaped[np.ndarray, "learners ..."]
    log_probs: Float[np.ndarray, " learners"] | None


class Outcome(NamedTuple):
    """What came of it: `following` is what the source sees after the step, before any reset."""

    rewards: Float[np.ndarray, " learners"]
    terminated: Bool[np.ndarray, " learners"]
    is_end: Bool[np.ndarray, " learners"]
    """Terminated or truncated: what `act` sees next is of another episode."""
    following: Shaped[np.ndarray, "learners ..."]


class Update(NamedTuple):
    """A row of the updates table for each learner: one number for all, or one a learner."""

    values: Mapping[str, float | Float[np.ndarray, " learners"]]
    learning_rate: float | None


@runtime_checkable
class Agent(Protocol):
    """Many learners of one algorithm; Discrete actions count from 0."""

    @property
    def num_bytes(self) -> int:
        """What it holds in memory, where that is much."""
        ...

    def act(self, step: int, seen: Shaped[np.ndarray, "learners ..."]) -> Choice:
        """Choose an action for each learner, which sees one row."""
        ...

    def learn(self, actions: Shaped[np.ndarray, "learners ..."], outcome: Outcome) -> None:
        """Learn from the step that `act` was asked for last."""
        ...

    def update(self, step: int) -> Update | None:
        """Return the row of the updates table that is due when `step` steps have been lived; None if none is."""
        ...
