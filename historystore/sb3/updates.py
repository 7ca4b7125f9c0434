"""What a learner's logger holds after each of its updates."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

_LEARNING_RATE = "train/learning_rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One call of `train()`: the per-stream step from which the new policy acts, and what was logged."""

    step: int
    values: dict[str, float]
    learning_rate: float | None
    wall_time_s: float


class UpdateLog:
    """Collect each call of a model's `train()`, with every number that the logger holds after it.

    Stable-Baselines3 dumps and clears its logger *before* `train()` (A2C only every 100th time, off-policy algorithms
    by episodes), so a dump is late and incomplete. Right after `train()` comes `on_rollout_start()` of the next rollout
    or `on_training_end()`, with the values untouched: there `look()` is called. That an update has happened shows in
    `model._n_updates`, which every algorithm counts up (`tests/test_record_sb3_updates.py`).
    """

    def __init__(self, model: BaseAlgorithm, *, wall_time_s: float = 0.0) -> None:
        self._num_updates = model._n_updates
        self._started = time.monotonic() - wall_time_s
        self._updates: list[Update] = []

    @property
    def wall_time_s(self) -> float:
        """Seconds of learning so far, those of attempts that this one continues included."""
        return time.monotonic() - self._started

    def look(self, model: BaseAlgorithm, *, step: int) -> None:
        """Collect the update that has happened since the last look, if one has; its policy acts from `step` on."""
        if model._n_updates == self._num_updates:
            return
        self._num_updates = model._n_updates
        logged = ((name, _number(value)) for name, value in model.logger.name_to_value.items())
        values = {name: number for name, number in logged if number is not None}
        rate = values.get(_LEARNING_RATE)
        self._updates.append(Update(step=step, values=values, learning_rate=rate, wall_time_s=self.wall_time_s))

    def take(self) -> list[Update]:
        """Return what was collected, and begin anew."""
        updates, self._updates = self._updates, []
        return updates


def _number(value: Any) -> float | None:
    """Return a logged value as a number; text, figures and videos are none."""
    if isinstance(value, str):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
