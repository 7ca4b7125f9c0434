"""The engine: a group of learners, stepped together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from historystore import tasks
from historystore.classic.group import Group
from historystore.classic.recording import OPTIONAL, GroupRecording
from historystore.documents import LearnerSpec
from historystore.errors import InvalidValue, WriteFailed
from historystore.recording.engines import Interrupted, Session
from historystore.recording.messages import Finished

_MOST_LEARNERS = 256
_MOST_ROW_BYTES = 2**21
_MOST_STATE_BYTES = 2**28


class ClassicEngine:
    """Learners as array operations: each of a group is one row.

    Args:
        policies: the store of the models that act, where specifications name some.
    """

    def __init__(self, *, policies: str | None = None) -> None:
        self._policies = policies

    def check(self, template: LearnerSpec, *, fields: Sequence[str] | None) -> None:
        """Build one learner.

        Raises:
            InvalidValue: a hyperparameter is out of its range, the algorithm cannot act in the environment, or a field
                is asked of the environment's info.
        """
        unknown = next((name for name in fields or () if name.startswith("info/")), None)
        if unknown is not None:
            raise InvalidValue(
                f"--fields: {template.algorithm} records {' and '.join(OPTIONAL)}, got {unknown}. Leave it out."
            )
        if template.num_streams != 1:
            raise InvalidValue(
                f"--streams: {template.algorithm} has one, got {template.num_streams}. Record more seeds instead."
            )
        Group([template], policies=self._policies)

    def group_size(self, template: LearnerSpec) -> int:
        """Return as many learners as fit the memory that a worker may take for them."""
        space = tasks.family(template.family, template.env_args).observation_space
        num_bytes = 0 if space.shape is None else math.prod(space.shape) * np.dtype(space.dtype).itemsize
        num_learner_bytes = Group([template], policies=self._policies).num_bytes
        rooms = (_MOST_ROW_BYTES // max(num_bytes, 1), _MOST_STATE_BYTES // max(num_learner_bytes, 1))
        return max(min(_MOST_LEARNERS, *rooms), 1)

    def learn(self, specs: Sequence[LearnerSpec], session: Session) -> Iterator[Finished]:
        """Learn all of them step by step; if one raises, each is learned again alone."""
        recording = GroupRecording(specs, session)
        try:
            group = Group(specs, policies=self._policies)
            for step in range(specs[0].num_steps):
                group.step(recording)
                session.watch((step + 1) * len(specs))
        except WriteFailed:
            raise
        except Interrupted:
            recording.finish("partial", error="interrupted")
            yield from (_finished(spec, recording, "partial") for spec in specs)
        except Exception as error:  # noqa: BLE001 - recorded with the learner; the others go on
            text = f"{type(error).__name__}: {error}"
            recording.finish("failed", error=text)  # of those that then learn alone, the complete attempt shows
            if len(specs) == 1:
                yield _finished(specs[0], recording, "failed", error=text)
            else:
                yield from self._alone(specs, session)
        else:
            recording.finish("complete")
            yield from (_finished(spec, recording, "complete") for spec in specs)

    def _alone(self, specs: Sequence[LearnerSpec], session: Session) -> Iterator[Finished]:
        for spec in specs:
            for finished in self.learn([spec], session):
                yield finished
                if finished.status == "partial":
                    return


def _finished(spec: LearnerSpec, recording: GroupRecording, status: str, *, error: str | None = None) -> Finished:
    assert spec.seed is not None
    return Finished(seed=spec.seed, status=status, num_steps=recording.num_steps, error=error)
