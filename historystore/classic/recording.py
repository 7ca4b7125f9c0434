"""A group of learners while it is being recorded."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Shaped

from historystore.classic.agent import Update
from historystore.classic.block import Block
from historystore.classic.provenance import provenances
from historystore.documents import LearnerSpec, Status
from historystore.recording.engines import Session

_FLUSH_S = 1.0
OPTIONAL = ("log_prob", "source_observation")
"""The step fields beyond those that every learner has."""


class GroupRecording:
    """Gathers the steps of a group, and hands them to the writer of each learner many at a time."""

    def __init__(self, specs: Sequence[LearnerSpec], session: Session) -> None:
        self.num_steps = 0
        self._left_out = {name for name in OPTIONAL if session.fields is not None and name not in session.fields}
        self._writers = [
            session.writer.begin(spec, provenance=provenance)
            for spec, provenance in zip(specs, provenances(specs), strict=True)
        ]
        self._block = Block()
        self._updates: list[tuple[int, float, Update]] = []
        self._shown: Mapping[str, np.ndarray] = {}
        self._started = self._flushed = time.monotonic()

    def add(
        self,
        row: Mapping[str, Shaped[np.ndarray, "learners ..."]],
        *,
        is_end: Bool[np.ndarray, " learners"] | None,
        following: Mapping[str, Shaped[np.ndarray, "learners ..."]],
        shown: Mapping[str, Shaped[np.ndarray, "learners ..."]],
    ) -> None:
        """Add a step of every learner.

        Args:
            row: the fields of the step.
            is_end: whose episodes it ends; None for nobody's.
            following: the observations that it led to, by field.
            shown: the observations that the next actions will answer: where an episode has ended, the next one's first.
        """
        self._block.add({name: values for name, values in row.items() if name.partition("/")[0] not in self._left_out})
        if is_end is not None:
            self._block.add_ends(is_end, following)
        self._shown = shown
        self.num_steps += 1
        if self._block.is_full or time.monotonic() - self._flushed >= _FLUSH_S:
            self._flush()

    def add_update(self, update: Update) -> None:
        """Add a row of the updates table, whose policy acts from the next step on."""
        self._updates.append((self.num_steps, time.monotonic() - self._started, update))

    def finish(self, status: Status, *, error: str | None = None) -> None:
        """Write what there is, and end every learner with that status."""
        self._flush()
        for writer in self._writers:
            writer.finish(status=status, error=error)

    def _flush(self) -> None:
        """Hand over the steps, then the updates made since: none of them acts later than they reach."""
        if self._block.num_rows:
            finals = self._block.finals(len(self._writers), self._shown)
            for learner, (writer, final) in enumerate(zip(self._writers, finals, strict=True)):
                writer.add_steps(
                    self._block.steps(learner),
                    final_observations=final,
                    next_observation={name: values[learner : learner + 1] for name, values in self._shown.items()},
                )
            self._block.clear()
        for step, wall_time_s, update in self._updates:
            columns = [np.broadcast_to(values, len(self._writers)).tolist() for values in update.values.values()]
            for writer, *numbers in zip(self._writers, *columns, strict=True):
                writer.add_update(
                    step=step,
                    values=dict(zip(update.values, numbers, strict=True)),
                    learning_rate=update.learning_rate,
                    wall_time_s=wall_time_s,
                )
        self._updates = []
        self._flushed = time.monotonic()
