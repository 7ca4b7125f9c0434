"""Writing the traces of learners in lockstep into a store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from historystore.documents import LearnerSpec, Provenance, Status
from historystore.learner_writer import LearnerWriter
from historystore.lockstep.limits import FIELDS
from historystore.lockstep.stretch import Stretch, Update
from historystore.lockstep.worlds import Ends
from historystore.writer import StoreWriter

_STEPS_AT_ONCE = 2048
"""Steps of a learner that wait before they are written: a writer's work for a block hardly depends on its length."""


class Recording:
    """One writer for each learner; steps are handed over in blocks of some rollouts.

    Args:
        writer: of the store.
        specs: the learners.
        fields: the optional step fields to record; None for all.
        provenance: of each learner.
    """

    def __init__(
        self,
        writer: StoreWriter,
        specs: Sequence[LearnerSpec],
        *,
        fields: Sequence[str] | None,
        provenance: Callable[[LearnerSpec], Provenance],
    ) -> None:
        self._fields = FIELDS if fields is None else tuple(fields)
        self._num_streams = specs[0].num_streams
        self._learners: dict[int, LearnerWriter] = {
            index: writer.begin(spec, provenance=provenance(spec)) for index, spec in enumerate(specs)
        }
        self._waiting: list[Stretch] = []
        self._updates: list[tuple[Update, float]] = []
        self._started = time.monotonic()

    @property
    def under_way(self) -> list[int]:
        """The learners that have not ended."""
        return list(self._learners)

    def add(self, stretch: Stretch) -> None:
        """Take what all learners have lived; it is written when enough has come together.

        Raises:
            WriteFailed: a seal was due and the disk refused.
        """
        self._waiting.append(stretch)
        now = time.monotonic() - self._started
        self._updates += [(update, now) for update in stretch.updates]
        if sum(waiting.trace.num_steps for waiting in self._waiting) * self._num_streams >= _STEPS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            WriteFailed: a seal was due and the disk refused.
        """
        stretches, self._waiting = self._waiting, []
        updates, self._updates = self._updates, []
        if stretches:
            block = _Block(stretches, fields=self._fields, num_streams=self._num_streams)
            for index, learner in self._learners.items():
                block.write(learner, index)
        for update, wall_time_s in updates:
            for index, learner in self._learners.items():
                values = update.logs[index]
                learner.add_update(
                    step=update.step,
                    values=values,
                    learning_rate=values.get("train/learning_rate"),
                    wall_time_s=wall_time_s,
                )

    def finish(self, learner: int, status: Status, *, error: str | None = None, checkpoint: str | None = None) -> None:
        """End one learner with the steps that were added; write them first.

        Raises:
            WriteFailed: a seal was due and the disk refused.
        """
        self.flush()
        self._learners.pop(learner).finish(status=status, error=error, checkpoint=checkpoint)


class _Block:
    """Some stretches of all learners, from which each learner's part is cut."""

    def __init__(self, stretches: Sequence[Stretch], *, fields: Sequence[str], num_streams: int) -> None:
        traces = [stretch.trace for stretch in stretches]
        self._num_streams = num_streams
        self._steps = {
            "observation": np.concatenate([trace.observations[:-1] for trace in traces]),
            "action": np.concatenate([trace.actions for trace in traces]),
            "reward": np.concatenate([trace.rewards for trace in traces]),
            "terminated": np.concatenate([trace.terminated for trace in traces]),
            "truncated": np.concatenate([trace.truncated for trace in traces]),
        }
        for name in traces[0].fields.keys() & set(fields):
            self._steps[name] = np.concatenate([trace.fields[name] for trace in traces])
        if traces[0].has_source_view and "source_observation" in fields:
            self._steps["source_observation"] = np.concatenate([trace.views[:-1] for trace in traces])
        self._next = traces[-1].observations[-1]
        ends = [end for trace in traces for end in trace.ends]
        self._num_rows = traces[0].actions.shape[1]
        self._final, self._bounds = self._by_learner(ends)

    def _by_learner(self, ends: Sequence[Ends]) -> tuple[np.ndarray, np.ndarray]:
        """Return what followed the ends of episodes, learner by learner in order of time, and where each begins."""
        bounds = np.arange(self._num_rows // self._num_streams + 1)
        if not ends:
            return self._next[:0], np.zeros(len(bounds), np.int64)
        learners = np.concatenate([end.rows for end in ends]) // self._num_streams
        order = np.argsort(learners, kind="stable")
        observations = np.concatenate([end.observations for end in ends])[order]
        return observations, np.searchsorted(learners[order], bounds)

    def write(self, learner: LearnerWriter, index: int) -> None:
        """Write one learner's part."""
        rows = slice(index * self._num_streams, (index + 1) * self._num_streams)
        learner.add_steps(
            {name: array[:, rows] for name, array in self._steps.items()},
            final_observations={"observation": self._final[self._bounds[index] : self._bounds[index + 1]]},
            next_observation={"observation": self._next[rows]},
        )
