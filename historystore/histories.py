"""One history, and reading from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from historystore.digest import is_observation
from historystore.errors import DamagedData, InvalidValue, MissingField
from historystore.fields import FLAG_FIELDS, Field
from historystore.tables import EpisodeTable

if TYPE_CHECKING:
    from historystore.learners import Learner
    from historystore.store import Store

Columns = dict[str, np.ndarray]


class History:
    """One stream of one learner: an unbroken axis of steps across episodes and updates."""

    def __init__(self, store: Store, index: int) -> None:
        self.store = store
        self.index = index
        """Position among the store's histories."""
        self.stream = int(store.histories.stream[index])
        self.num_steps = int(store.histories.num_steps[index])

    def __repr__(self) -> str:
        return f"History({self.learner.id[:12]}, stream {self.stream}, {self.num_steps} steps)"

    def __len__(self) -> int:
        return self.num_steps

    @property
    def learner(self) -> Learner:
        """Whose history it is."""
        return self.store.learners[int(self.store.histories.learner[self.index])]

    @property
    def episodes(self) -> EpisodeTable:
        """Its episodes, first one first."""
        bounds = self.store.episode_start
        return self.store.episodes.rows(int(bounds[self.index]), int(bounds[self.index + 1]))

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields that all of its steps have, in the order of the store's."""
        names = [
            {field.name for field in self.store.shard_fields(shard)} for shard, *_ in self._pieces(0, self.num_steps)
        ]
        return tuple(field.name for field in self.store.fields if all(field.name in present for present in names))

    def field(self, name: str) -> Field:
        """Return a field as this history has it, or the store where the history has no step.

        Raises:
            MissingField: some of its steps lack the field.
        """
        self._check_fields([name])
        if not self.num_steps:
            return self.store.field(name)
        shard = int(self.store.histories.piece_shard[self.store.histories.piece_start[self.index]])
        return next(field for field in self.store.shard_fields(shard) if field.name == name)

    def read(self, start: int = 0, stop: int | None = None, *, fields: Sequence[str] | None = None) -> Columns:
        """Read steps from `start` to before `stop`, all of them unless told otherwise.

        Returns:
            field name -> (steps, ...) in the field's logical dtype, bit for bit what was recorded.

        Raises:
            InvalidValue: the span is not within the history.
            MissingField: some of these steps lack a field.
            DamagedData: what is on the disk is not what was written.
        """
        stop = self._checked(start, stop)
        names = self.fields if fields is None else tuple(fields)
        self._check_fields(names)
        pieces = list(self._pieces(start, stop))
        return {name: self._column(name, pieces) for name in names}

    def final_observation(self, step: int) -> Columns:
        """Read what followed a step that ended an episode, or the history.

        Returns:
            observation field -> (...)

        Raises:
            InvalidValue: the episode went on behind this step.
        """
        steps, columns = self._final_observations(step, step + 1)
        if not len(steps):
            raise InvalidValue(
                f"{self}: step {step} ends no episode, so what followed it is the observation of step {step + 1}. "
                "Use next_observations."
            )
        return {name: np.asarray(column[-1], column.dtype) for name, column in columns.items()}

    def next_observations(self, start: int = 0, stop: int | None = None) -> Columns:
        """Read what followed each of some steps: the true next observation, at an episode's end too.

        Returns:
            observation field -> (steps, ...)

        Raises:
            InvalidValue: the history was cut by the loss of a shard, and what followed its last step is not known.
            DamagedData: the shards lack an observation that should be there.
        """
        stop = self._checked(start, stop)
        names = tuple(name for name in self.fields if is_observation(name))
        following = self.read(min(start + 1, self.num_steps), min(stop + 1, self.num_steps), fields=names)
        steps, ends = self._final_observations(start, stop)
        self._check_ends(start, stop, steps)
        columns = {}
        for name in names:
            column = np.zeros((stop - start, *following[name].shape[1:]), following[name].dtype)
            column[: len(following[name])] = following[name]
            column[steps - start] = ends[name]
            columns[name] = column
        return columns

    def ends(self) -> tuple[Int64[np.ndarray, " ends"], Columns]:
        """Read what followed the last step of each episode: those steps, and the observations.

        The steps at which the recorder sealed are among them too.
        """
        return self._final_observations(0, self.num_steps)

    def _checked(self, start: int, stop: int | None) -> int:
        stop = self.num_steps if stop is None else stop
        if not 0 <= start <= stop <= self.num_steps:
            raise InvalidValue(f"{self}: has no steps {start} to {stop}, expected a span within 0 to {self.num_steps}.")
        return stop

    def _check_ends(self, start: int, stop: int, steps: np.ndarray) -> None:
        flags = self.read(start, stop, fields=FLAG_FIELDS)
        expected = start + np.flatnonzero(flags["terminated"] | flags["truncated"])
        missing = np.setdiff1d(expected, steps)
        if missing.size:
            raise DamagedData(f"{self}: the observation behind step {missing[0]} is not in its shard. Run hist verify.")
        if start < stop == self.num_steps and stop - 1 not in steps:
            raise InvalidValue(f"{self}: what followed its last step is not known. Ask for steps up to {stop - 1}.")

    def _check_fields(self, names: Sequence[str]) -> None:
        missing = [name for name in names if name not in self.fields]
        if missing:
            raise MissingField(
                f"{self}: lacks {', '.join(missing)}, it has {', '.join(self.fields)}. Ask for fields it has."
            )

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Give (shard, its learner's row, first step, first row, last row) for what covers a span."""
        table = self.store.histories
        first, last = int(table.piece_start[self.index]), int(table.piece_start[self.index + 1])
        for piece in range(first, last):
            step, length = int(table.piece_first_step[piece]), int(table.piece_length[piece])
            begin, end = max(start, step), min(stop, step + length)
            if begin < end:
                offset = int(table.piece_offset[piece]) - step
                yield (
                    int(table.piece_shard[piece]),
                    int(table.piece_learner[piece]),
                    begin,
                    offset + begin,
                    offset + end,
                )

    def _column(self, name: str, pieces: Sequence[tuple[int, int, int, int, int]]) -> np.ndarray:
        arrays = [self.store.shard(shard).read(name, first, last) for shard, _, _, first, last in pieces]
        if len(arrays) == 1:
            return arrays[0]
        field = self.field(name)
        return np.concatenate(arrays) if arrays else np.zeros((0, *field.shape), field.dtype)

    def _final_observations(self, start: int, stop: int) -> tuple[np.ndarray, Columns]:
        """Read the observations behind ends that lie in a span: the steps, and the observations."""
        names = [name for name in self.fields if is_observation(name)]
        steps: list[np.ndarray] = [np.zeros(0, np.int64)]
        columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for shard, row, first_step, first, last in self._pieces(start, stop):
            table = self.store.shard_ends(shard)
            found = table.find(row, self.stream, first_step, first_step + last - first)
            steps.append(table.columns["step"][found])
            for name in names:
                columns[name].append(table.columns[name][found])
        fields = {name: self.field(name) for name in names}
        empty = {name: np.zeros((0, *field.shape), field.dtype) for name, field in fields.items()}
        return np.concatenate(steps), {name: np.concatenate([empty[name], *parts]) for name, parts in columns.items()}
