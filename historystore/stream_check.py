"""One stream of an attempt, followed step by step: what its steps say against what the tables say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from historystore.digest import LearnerHasher, is_observation
from historystore.fields import Field
from historystore.problems import Problem
from historystore.shards import ShardReader
from historystore.shards.protocol import Columns

RETURN_TOLERANCE = 1e-9
"""Of the sum of an episode's absolute rewards: what adding them in another order may change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of a table, from several shards."""

    columns: Columns
    shard: Int64[np.ndarray, " rows"]
    """Which of the shards each row comes from."""
    row: Int64[np.ndarray, " rows"]
    """And which row of its table it is there."""

    def taken(self, rows: np.ndarray) -> Table:
        """Return some rows."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Table(columns=columns, shard=self.shard[rows], row=self.row[rows])

    def of_stream(self, stream: int, *, by: str) -> Table:
        """Return the rows of one stream, sorted by a column."""
        table = self.taken(self.columns["stream"] == stream)
        return table.taken(np.argsort(table.columns[by], kind="stable"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """The shards of one attempt, and what its learner is called in messages."""

    learner: str
    files: Sequence[str]
    readers: Sequence[ShardReader]
    tables: Mapping[str, Table]
    fields: tuple[Field, ...]


class StreamWalk:
    """Follows one stream, feeding the hasher, and remembers the episodes that its steps make."""

    def __init__(self, shards: Shards, stream: int, hasher: LearnerHasher) -> None:
        self._shards, self._stream, self._hasher = shards, stream, hasher
        self._segments = shards.tables["segments"].of_stream(stream, by="first_step")
        self._episodes = shards.tables["episodes"].of_stream(stream, by="first_step")
        self._ends = shards.tables["final_observations"].of_stream(stream, by="step")
        self._num_steps = 0
        self._episode_start = 0
        self._open_sums = np.zeros(2)  # of the open episode's rewards, and of their absolute values
        self._made: list[Columns] = []

    @property
    def is_running(self) -> bool:
        """Whether the last step so far ended no episode."""
        return self._episode_start < self._num_steps

    def follow(self, stop: int, *, file: str) -> Iterator[Problem]:
        """Go on to a step. After a problem the digest is unknown, and the walk is over."""
        starts = self._segments.columns["first_step"]
        stops = starts + self._segments.columns["length"]
        for row in range(len(starts)):
            start = int(starts[row])
            if stops[row] <= self._num_steps or start >= stop:
                continue
            if start > self._num_steps:
                stop = start
                break
            problems = list(self._add(row, stop=min(stop, int(stops[row]))))
            yield from problems
            if problems:
                return
        if self._num_steps < stop:
            message = f"steps {self._num_steps} to {stop} of {self._name} lie in no shard."
            yield Problem(file=file, field="segments", message=message)
        elif self.is_running and not self._has_ends(np.array([stop - 1])).all():
            message = f"what follows step {stop - 1} of {self._name} is missing."
            yield Problem(file=file, field="final_observations", message=message)

    def running(self) -> tuple[int, Int64[np.ndarray, "1 3"], dict[str, np.ndarray]]:
        """Return the open episode as the hasher takes it."""
        first = np.array([self._episode_start])
        keys = np.stack([first, self._num_steps - first, self._seeds(first)], axis=1)
        return self._stream, keys, self._following(np.array([self._num_steps - 1]))

    def table_problems(self) -> Iterator[Problem]:
        """Compare the episode table with the episodes that the steps made."""
        made = (
            {name: np.concatenate([rows[name] for rows in self._made]) for name in self._made[0]} if self._made else {}
        )
        is_finished = self._episodes.columns["terminated"] | self._episodes.columns["truncated"]
        yield from self._finished_problems(self._episodes.taken(is_finished), made)
        yield from self._open_problems(self._episodes.taken(~is_finished), made)

    @property
    def _name(self) -> str:
        return f"learner {self._shards.learner[:12]}, stream {self._stream}"

    def _add(self, row: int, *, stop: int) -> Iterator[Problem]:
        """Go on to a step within one segment."""
        segment = {name: int(column[row]) for name, column in self._segments.columns.items()}
        shard = int(self._segments.shard[row])
        begin = segment["offset"] + self._num_steps - segment["first_step"]
        end = segment["offset"] + stop - segment["first_step"]
        reader = self._shards.readers[shard]
        steps = {field.name: reader.read(field.name, begin, end) for field in self._shards.fields}
        made = self._episodes_of(steps)
        ends = made["first_step"] + made["length"] - 1
        has_end = self._has_ends(ends)
        if not has_end.all():
            step = int(ends[~has_end][0])
            message = f"what follows step {step} of {self._name}, where an episode ends, is missing."
            yield Problem(file=self._shards.files[shard], field="final_observations", message=message)
            return
        self._hasher.add_steps(self._stream, steps)
        keys = np.stack([made["first_step"], made["length"], self._seeds(made["first_step"])], axis=1)
        self._hasher.add_episodes(self._stream, keys, self._following(ends))
        self._made.append(made | {"shard": np.full(len(ends), shard), "end_row": begin + ends - self._num_steps})
        self._num_steps = stop

    def _episodes_of(self, steps: Columns) -> Columns:
        """Return the episodes that end in some steps, from flags and rewards alone."""
        at = np.flatnonzero(steps["terminated"] | steps["truncated"])
        rewards = np.zeros((2, len(steps["reward"]) + 1))
        rewards[0, :-1] = steps["reward"]
        rewards[1] = np.abs(rewards[0])
        sums = np.add.reduceat(rewards, np.concatenate([[0], at + 1]), axis=1)  # (2, ends + 1)
        sums[:, 0] += self._open_sums
        stops = self._num_steps + at + 1
        first = np.concatenate([[self._episode_start], stops])
        self._open_sums, self._episode_start = sums[:, -1], int(first[-1])
        return {
            "first_step": first[:-1],
            "length": stops - first[:-1],
            "return": sums[0, :-1],
            "scale": sums[1, :-1],
            "terminated": steps["terminated"][at],
            "truncated": steps["truncated"][at],
        }

    def _seeds(self, first_step: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the seeds that the episode table gives; -1 where it has no such episode, which is told elsewhere."""
        return _looked_up(self._episodes.columns["first_step"], self._episodes.columns["seed"], first_step, default=-1)

    def _has_ends(self, steps: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        known = self._ends.columns["step"]
        return np.isin(steps, known)

    def _following(self, steps: Int64[np.ndarray, " n"]) -> dict[str, np.ndarray]:
        """Return what follows steps that are known to have a final observation."""
        rows = np.searchsorted(self._ends.columns["step"], steps)
        return {name: column[rows] for name, column in self._ends.columns.items() if is_observation(name)}

    def _finished_problems(self, table: Table, made: Columns) -> Iterator[Problem]:
        """Check that each finished row is an episode of the steps, and each such episode a row."""
        if not made:
            made = {name: np.zeros(0, column.dtype) for name, column in table.columns.items()} | {"scale": np.zeros(0)}
        first = table.columns["first_step"]
        missing = np.flatnonzero(~np.isin(made["first_step"], first))
        if len(missing):
            at = int(made["end_row"][missing[0]])
            message = f"an episode of {self._name} ends here, which the episode table does not have."
            file = self._shards.files[int(made["shard"][missing[0]])]
            yield Problem(file=file, field="episodes", rows=None, message=f"{message[:-1]} (row {at} of the steps).")
        is_made = np.isin(first, made["first_step"])
        place = np.searchsorted(made["first_step"], first[is_made])
        kept = table.taken(is_made)
        yield from self._row_problem(table, ~is_made, "is no episode that the steps make.")
        for name in ("length", "terminated", "truncated"):
            is_wrong = kept.columns[name] != made[name][place]
            yield from self._row_problem(kept, is_wrong, f"its {name} is not what the steps say.")
        is_wrong = ~_is_close(kept.columns["return"], made["return"][place], scale=made["scale"][place])
        yield from self._row_problem(kept, is_wrong, "its return is not the sum of its rewards.")

    def _open_problems(self, table: Table, made: Columns) -> Iterator[Problem]:
        """Check that each row of an episode still running at a seal begins one, and goes beyond no end."""
        stops = made["first_step"] + made["length"] if made else np.zeros(0, np.int64)
        first, stop = table.columns["first_step"], table.columns["first_step"] + table.columns["length"]
        begins = np.isin(first, np.concatenate([[0], stops]))
        next_end = np.append(stops, self._num_steps + 1)[np.searchsorted(stops, first, side="right")]
        yield from self._row_problem(table, ~begins | (stop >= next_end), "is no episode that the steps make.")

    def _row_problem(self, table: Table, is_wrong: Bool[np.ndarray, " rows"], what: str) -> Iterator[Problem]:
        """Yield the first of some wrong rows, and how many there are."""
        wrong = np.flatnonzero(is_wrong)
        if len(wrong):
            row = int(table.row[wrong[0]])
            others = f" ({len(wrong) - 1} more of {self._name})" if len(wrong) > 1 else f" ({self._name})"
            file = self._shards.files[int(table.shard[wrong[0]])]
            yield Problem(file=file, field="episodes", rows=(row, row + 1), message=what[:-1] + others + ".")


def _looked_up(
    keys: Int64[np.ndarray, " rows"],
    values: Int64[np.ndarray, " rows"],
    wanted: Int64[np.ndarray, " n"],
    *,
    default: int,
) -> Int64[np.ndarray, " n"]:
    """Return the value of each wanted key among sorted keys."""
    place = np.searchsorted(keys, wanted)
    is_known = np.append(keys, -1)[place] == wanted
    return np.where(is_known, np.append(values, default)[np.where(is_known, place, len(values))], default)


def _is_close(given: np.ndarray, made: np.ndarray, *, scale: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Say which returns are equal up to the order of adding; NaN equals NaN."""
    with np.errstate(invalid="ignore"):
        is_near = np.abs(given - made) <= RETURN_TOLERANCE * scale
    result: np.ndarray = is_near | (given == made) | (np.isnan(given) & np.isnan(made))
    return result
