"""One call of `learn()` while it is being recorded."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from jaxtyping import Shaped
from stable_baselines3.common.base_class import BaseAlgorithm

from historystore.documents import Status
from historystore.errors import HistoryError
from historystore.learner_writer import LearnerWriter
from historystore.sb3.policy_fields import Reading, field_readings
from historystore.sb3.tap import Tap
from historystore.sb3.updates import UpdateLog
from historystore.writer import StoreWriter

_FLUSH_S = 1.0


class Recording:
    """Moves steps and updates from a tap to a writer, and lets go of both when it ends.

    It knows nothing of the callback, so that it can end the recording when the callback is gone.
    """

    def __init__(
        self,
        *,
        tap: Tap,
        learner: LearnerWriter,
        updates: UpdateLog,
        action_space: spaces.Space[Any],
        fields: Sequence[str] | None,
        writer: StoreWriter,
        is_own_writer: bool,
    ) -> None:
        self.writer, self._is_own_writer = writer, is_own_writer
        self._tap, self._learner, self._updates = tap, learner, updates
        self._action_space, self._fields = action_space, fields
        self._readings: list[tuple[str, Reading]] | None = None
        self._tensors: dict[str, list[th.Tensor]] = {}
        self._flush_at = time.monotonic() + _FLUSH_S
        self._num_flushed = learner.num_steps
        self._pid = os.getpid()
        self._is_running = True
        self._finalizer: weakref.finalize[Any, Any] | None = None

    @property
    def num_rows(self) -> int:
        """Steps of each stream so far, those of attempts that this one continues included."""
        return self._num_flushed + self._tap.num_rows

    @property
    def wall_time_s(self) -> float:
        """Seconds of learning so far, those of attempts that this one continues included."""
        return self._updates.wall_time_s

    def step(self, loop: Mapping[str, Any]) -> None:
        """Complete the step that the tap has heard with what the training loop knows of it."""
        tap = self._tap
        tap.check()
        if self._readings is None:
            self._readings = field_readings(loop, self._action_space, self._fields)
        for name, reading in self._readings:
            value = reading(loop)
            if isinstance(value, th.Tensor):
                # Nothing changes a tensor that the policy returned; turning each into an array would cost more than
                # all the rest of a step.
                self._tensors.setdefault(name, []).append(value)
            else:
                tap.put(name, value)
        tap.confirm()
        if tap.is_full or time.monotonic() >= self._flush_at:
            self.flush()

    def missing(self) -> str | None:
        """Return what lacks of the steps that the learner was to live; None if nothing does."""
        spec = self._learner.spec
        num_steps = self.num_rows * spec.num_streams
        return None if num_steps >= spec.num_steps else f"learn() ended after {num_steps} of {spec.num_steps} steps"

    def finish_with(self, owner: object) -> None:
        """Finish as partial when the owner is collected or the interpreter exits, unless that has happened before."""
        self._finalizer = weakref.finalize(owner, self.finish, "partial")

    def look(self, model: BaseAlgorithm) -> None:
        """Collect the update that has just happened, if one has."""
        self._updates.look(model, step=self.num_rows)

    def finish(self, status: Status, *, error: str | None = None, checkpoint: str | None = None) -> None:
        """Write what there is with its status and let go of everything; once is enough."""
        if not self._is_running or os.getpid() != self._pid:
            return
        self._let_go()
        self.flush()
        self._learner.finish(status=status, error=error, checkpoint=checkpoint)
        if self._is_own_writer:
            self.writer.close()

    def _let_go(self) -> None:
        self._is_running = False
        self._tap.remove()
        if self._finalizer is not None:
            self._finalizer.detach()

    def flush(self) -> None:
        """Hand over the confirmed steps, then the updates made since: none of them acts later than they reach."""
        num_rows = self._tap.num_rows
        block = self._tap.take()
        held, self._tensors = self._tensors, {}
        try:
            if num_rows:
                self._learner.add_steps(
                    block.steps | {name: _stacked(tensors[:num_rows]) for name, tensors in held.items()},
                    final_observations=block.final_observations,
                    next_observation=block.next_observation,
                )
            for update in self._updates.take():
                self._learner.add_update(
                    step=update.step,
                    values=update.values,
                    learning_rate=update.learning_rate,
                    wall_time_s=update.wall_time_s,
                )
        except HistoryError:
            self._let_go()
            raise
        self._num_flushed += num_rows
        self._flush_at = time.monotonic() + _FLUSH_S


def _stacked(tensors: Sequence[th.Tensor]) -> Shaped[np.ndarray, "time streams"]:
    """Return one number a stream and step as an array; a value is (streams, 1)."""
    return th.stack(list(tensors)).flatten(1).numpy(force=True)
