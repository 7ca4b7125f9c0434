"""Writing one learner: what it lives, and what is remembered of it between seals."""

from __future__ import annotations

import math
import platform
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import SupportsFloat

import numpy as np

from historystore.blocks import block_fields, by_stream, raise_problems, row_problems
from historystore.buffers import Episodes, RunningEpisodes, StepBuffer
from historystore.digest import LearnerHasher, is_observation
from historystore.documents import Continuation, LearnerRow, LearnerSpec, Provenance, Status
from historystore.errors import InvalidValue
from historystore.fields import FLAG_FIELDS, Field
from historystore.parts import Ends, LearnerPart, Update
from historystore.replay import Replay

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalAttempt:
    """The attempt that another one is a copy of: its id and times are kept."""

    attempt: str
    started: str
    ended: str | None


class LearnerWriter:
    """One attempt at a learner; made by `StoreWriter.begin`."""

    def __init__(
        self,
        spec: LearnerSpec,
        *,
        provenance: Provenance | None,
        space_fields: Mapping[str, Field],
        on_change: Callable[[int], None],
        on_finish: Callable[[], None],
        original: OriginalAttempt | None = None,
    ) -> None:
        self.spec = spec
        self.learner = spec.id
        self._original = original or OriginalAttempt(attempt=_new_attempt(), started=_now(), ended=None)
        self.attempt = self._original.attempt
        self.num_steps = 0
        self._provenance = provenance or provenance_here(environment=spec.family)
        self._spaces = dict(space_fields)
        self._on_change, self._on_finish = on_change, on_finish
        self._started = self._original.started
        self._ended: str | None = None
        self._status: Status = "partial"
        self._error: str | None = None
        self._checkpoint: str | None = None
        self._continues: Continuation | None = None
        self._sequence = 0
        self._num_updates = 0
        self._fields: tuple[Field, ...] = ()
        self._hasher = LearnerHasher(self.learner, num_streams=spec.num_streams)
        self._running = RunningEpisodes.starting(num_streams=spec.num_streams)
        self._next_observation: dict[str, np.ndarray] = {}
        self._steps: StepBuffer | None = None
        self._episodes: list[Episodes] = []
        self._ends: list[Ends] = []
        self._updates: list[Update] = []
        self._has_news = False

    def resume(self, continues: Continuation, past: Replay) -> None:
        """Take over from another attempt, before the first step."""
        self._continues = continues
        self._fields, self._hasher, self._running = past.fields, past.hasher, past.running
        self.num_steps, self._num_updates = continues.step, past.num_updates

    @property
    def is_finished(self) -> bool:
        """Whether `finish` was called."""
        return self._ended is not None

    @property
    def has_news(self) -> bool:
        """Whether there is anything that the store does not have yet."""
        return self._has_news

    @property
    def num_bytes(self) -> int:
        """Bytes of steps that the store does not have yet."""
        return 0 if self._steps is None else self._steps.num_bytes

    def add_steps(
        self,
        steps: Arrays,
        *,
        final_observations: Arrays,
        next_observation: Arrays,
        episode_seeds: np.ndarray | None = None,
    ) -> None:
        """Add the next steps of all streams.

        All arrays are copied. Seals when a seal is due; should that fail, the steps are kept all the same: free the
        disk and call `StoreWriter.seal`, do not add them again.

        Args:
            steps: field name -> (steps, streams, ...), as the environment gave them.
            final_observations: observation field -> (ends, ...): what followed each step that is terminated or
                truncated, in order of (step, stream).
            next_observation: observation field -> (streams, ...): what each stream sees after the block; behind an
                end this is the next episode's first observation.
            episode_seeds: (steps, streams) of int64: the seed of the episode that begins at a step, -1 elsewhere or
                where it is unknown.

        Raises:
            InvalidValue: a field is missing, unknown, or of the wrong shape or dtype; nothing was added.
            WriteFailed: a seal was due and the disk refused.
        """
        self._check_open()
        num_streams = self.spec.num_streams
        fields = self._fields or block_fields(steps, self._spaces, num_streams=num_streams)
        block = by_stream(steps, fields, num_streams=num_streams)
        is_end = block["terminated"] | block["truncated"]  # (streams, steps)
        ends = self._ends_of(is_end, fields, final_observations)
        following = _checked(fields, next_observation, num_streams, "next_observation")
        seeds = _seeds(episode_seeds, is_end.shape)
        if not is_end.size:
            return
        if not self._fields:
            self._fields = fields
            self._hasher.define(fields)
        num_bytes = self.num_bytes
        self._add(block, ends, seeds)
        self._next_observation = following
        self._has_news = True
        self._on_change(self.num_bytes - num_bytes)

    def add_update(
        self,
        *,
        step: int,
        values: Mapping[str, SupportsFloat],
        learning_rate: SupportsFloat | None,
        wall_time_s: SupportsFloat,
    ) -> None:
        """Add the learner's next update.

        Args:
            step: the per-stream step from which the new policy acts.
            values: what the logger held after the update; NaN counts as absent.
            learning_rate: of this update, None if there is none.
            wall_time_s: seconds since the learner began.
        """
        self._check_open()
        rate = math.nan if learning_rate is None else float(learning_rate)
        numbers = {name: float(value) for name, value in values.items()}
        self._updates.append(
            Update(
                update=self._num_updates,
                step=step,
                wall_time_s=float(wall_time_s),
                learning_rate=rate,
                values=numbers,
            )
        )
        self._hasher.add_update(self._num_updates, step=step, learning_rate=rate, values=numbers)
        self._num_updates += 1
        self._has_news = True

    def add_checkpoint(self, name: str) -> None:
        """Name the checkpoint from which the learner can go on at its present step, from the next seal on.

        It stays the attempt's until another one is named.
        """
        self._check_open()
        self._checkpoint = name
        self._has_news = True

    def finish(self, *, status: Status = "complete", error: str | None = None, checkpoint: str | None = None) -> None:
        """End the attempt; a second call does nothing.

        Raises:
            WriteFailed: a seal was due and the disk refused; `StoreWriter.seal` tries again.
        """
        if self.is_finished:
            return
        self._status, self._error = status, error
        self._checkpoint = checkpoint or self._checkpoint
        self._ended = self._original.ended or _now()
        self._has_news = True
        self._on_finish()

    def part(self) -> LearnerPart:
        """Return what the store does not have yet; it stays here until `forget`."""
        rows = self._running.rows(step=self.num_steps)
        running = [] if self._steps is None else [rows]
        ends = [] if self._steps is None else [self._open_ends(rows)]
        return LearnerPart(
            row=self._row(rows),
            fields=self._fields,
            first_step=self.num_steps - (0 if self._steps is None else self._steps.num_steps),
            steps=self._steps,
            episodes=[*self._episodes, *running],
            ends=[*self._ends, *ends],
            updates=tuple(self._updates),
        )

    def forget(self) -> None:
        """Let go of what `part` returned: the store has it."""
        self._steps, self._episodes, self._ends, self._updates = None, [], [], []
        self._sequence += 1
        self._has_news = False

    def _check_open(self) -> None:
        if self.is_finished:
            raise InvalidValue(f"learner {self.learner[:12]}: is finished already. Begin another attempt.")

    def _add(self, block: Arrays, ends: Ends, seeds: np.ndarray) -> None:
        if self._steps is None:
            self._steps = StepBuffer(self._fields, num_streams=self.spec.num_streams)
        flags = {name: block[name] for name in FLAG_FIELDS}
        episodes = self._running.advance(step=self.num_steps, reward=block["reward"], seeds=seeds, **flags)
        bounds = np.searchsorted(episodes.stream, np.arange(self.spec.num_streams + 1)).tolist()
        keys = episodes.keys()
        for stream in range(self.spec.num_streams):
            rows = slice(bounds[stream], bounds[stream + 1])
            self._hasher.add_steps(stream, {name: array[stream] for name, array in block.items()})
            ended = {name: array[rows] for name, array in ends.observations.items()}
            self._hasher.add_episodes(stream, keys[rows], ended)
        self._steps.add(block)
        self._episodes.append(episodes)
        self._ends.append(ends)
        self.num_steps += block["reward"].shape[1]

    def _ends_of(self, is_end: np.ndarray, fields: tuple[Field, ...], given: Arrays) -> Ends:
        """Return the ends of episodes in a block by stream and step; they are given by step and stream."""
        time, stream = np.nonzero(is_end.T)
        order = np.lexsort((time, stream))
        observations = _checked(fields, given, len(time), "final_observations")
        return Ends(
            stream=stream[order],
            step=self.num_steps + time[order],
            observations={name: array[order] for name, array in observations.items()},
        )

    def _open_ends(self, running: Episodes) -> Ends:
        """Return what follows the last step of the streams whose episode goes on."""
        return Ends(
            stream=running.stream,
            step=np.full(len(running.stream), self.num_steps - 1),
            observations={name: array[running.stream] for name, array in self._next_observation.items()},
        )

    def _row(self, running: Episodes) -> LearnerRow:
        ends, keys = self._open_ends(running).observations, running.keys()
        open_episodes = (
            (int(stream), keys[i : i + 1], {name: array[i : i + 1] for name, array in ends.items()})
            for i, stream in enumerate(running.stream)
        )
        return LearnerRow(
            learner=self.learner,
            spec=self.spec,
            attempt=self.attempt,
            sequence=self._sequence,
            continues=self._continues,
            provenance=self._provenance,
            status=self._status,
            error=self._error,
            num_steps=(self.num_steps,) * self.spec.num_streams,
            num_updates=self._num_updates,
            digest=self._hasher.hexdigest(open_episodes),
            started=self._started,
            ended=self._ended,
            checkpoint=self._checkpoint,
        )


def provenance_here(*, environment: str) -> Provenance:
    """Return the provenance of a loop of one's own in this process."""
    from importlib.metadata import version

    versions = {"python": platform.python_version(), "numpy": np.__version__, "historystore": version("historystore")}
    return Provenance(
        engine="custom",
        engine_version="",
        algorithm_path="",
        environment=environment,
        versions=versions,
        host=socket.gethostname(),
    )


def _checked(fields: tuple[Field, ...], given: Arrays, num_rows: int, where: str) -> dict[str, np.ndarray]:
    """Return copies of observations, one row each, in logical dtypes."""
    problems: list[str] = []
    expected = [field for field in fields if is_observation(field.name)]
    for field in expected:
        if field.name not in given:
            problems.append(f"{where} lacks {field.name}")
        else:
            problems += [f"{where}: {p}" for p in row_problems(field, given[field.name], (num_rows,))]
    raise_problems(problems)
    return {field.name: np.array(given[field.name], field.dtype, order="C") for field in expected}


def _seeds(given: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    """Return episode seeds as (streams, steps)."""
    if given is None:
        return np.full(shape, -1, np.int64)
    seeds = np.asarray(given, np.int64)
    if seeds.shape != shape[::-1]:
        raise_problems([f"episode_seeds has shape {seeds.shape}, expected {shape[::-1]}"])
    return np.ascontiguousarray(seeds.T)


def _new_attempt() -> str:
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(4)}"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
