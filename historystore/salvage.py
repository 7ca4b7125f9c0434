"""What of one attempt can still be read, over all its shards, some of them damaged.

A step counts if all of its fields and what follows it can be read, and if it joins those before it. What follows a step
is the next one's observation, or behind an episode's end the final observation, which nothing can replace. Episodes
are rebuilt from flags and rewards where their table is lost; seeds that stood there alone are then unknown. Whether
anything was lost is not guessed: the learner's digest is taken anew at every seal and compared with the one recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from historystore.digest import LearnerHasher, is_observation
from historystore.documents import LearnerRow
from historystore.fields import Field
from historystore.problems import Problem, guarded
from historystore.shards import ShardReader
from historystore.shards.protocol import TABLES, VALUES, Columns
from historystore.stream_check import RETURN_TOLERANCE
from historystore.wreck import WreckPart


@dataclass(slots=True, kw_only=True)
class Salvaged:
    """What is left of a part: the tables that it makes in a shard of its own, and why there is not more."""

    row: LearnerRow
    """With true counts, and the digest of what is left."""
    is_whole: bool
    """Nothing is lost: the digest is the recorded one."""
    tables: dict[str, list[Columns]] = field(default_factory=lambda: {name: [] for name in ("steps", *TABLES)})
    why: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Of each stream that ends early, the fields or tables that cannot be read where it does."""

    @property
    def num_steps(self) -> int:
        """Steps of all streams."""
        return sum(len(columns["reward"]) for columns in self.tables["steps"])

    @property
    def num_updates(self) -> int:
        """Updates."""
        return sum(len(columns["update"]) for columns in self.tables["updates"])


@dataclass(slots=True, kw_only=True)
class _Stream:
    """Where one stream is."""

    num_steps: int = 0
    first_step: int = 0
    """Of the episode it is in."""
    return_: float = 0.0
    following: Columns = field(default_factory=dict)
    """What the last step led to, (1, ...) for each observation field."""


class AttemptWalk:
    """Walks through an attempt's parts in the order of their seals and takes what can be read."""

    def __init__(self, row: LearnerRow, fields: Sequence[Field], parts: Sequence[WreckPart]) -> None:
        self._hasher = LearnerHasher(row.learner, num_streams=row.spec.num_streams)
        self._fields, self._is_defined = fields, False
        self._streams = [_Stream() for _ in range(row.spec.num_streams)]
        self._num_updates = 0
        self._seeds, self._returns = _known_episodes(parts)

    @property
    def num_steps(self) -> tuple[int, ...]:
        """Steps of each stream so far."""
        return tuple(stream.num_steps for stream in self._streams)

    @property
    def num_updates(self) -> int:
        """Updates so far."""
        return self._num_updates

    def add(self, part: WreckPart, *, stop: int | None = None) -> Salvaged:
        """Take a part, or the steps of it before a per-stream step from which another attempt continues it."""
        salvaged = Salvaged(row=part.row, is_whole=False)
        for stream in range(len(self._streams)):
            self._add_stream(salvaged, part, stream, stop)
        self._add_updates(salvaged, part, stop)
        if stop is None:
            self._close(salvaged, part)
        return salvaged

    def _add_stream(self, salvaged: Salvaged, part: WreckPart, stream: int, stop: int | None) -> None:
        table, state = part.segments, self._streams[stream]
        offset = sum(len(columns["reward"]) for columns in salvaged.tables["steps"])
        start = state.num_steps
        if table is None:
            salvaged.why[stream] = ("segments",)
            return
        rows = np.flatnonzero(table["stream"] == stream)
        for row in rows[np.argsort(table["first_step"][rows], kind="stable")].tolist():
            first, length = int(table["first_step"][row]), int(table["length"][row])
            last = first + length if stop is None else min(first + length, stop)
            if last <= state.num_steps:
                continue
            if first > state.num_steps:
                salvaged.why[stream] = ()
                break
            begin = int(table["offset"][row]) + state.num_steps - first
            reached = self._add_rows(
                salvaged, part, stream, begin, begin + last - state.num_steps, is_clipped=last == stop
            )
            if reached < last:
                break
        if state.num_steps > start:
            segment = {"stream": stream, "first_step": start, "offset": offset, "length": state.num_steps - start}
            salvaged.tables["segments"].append({name: np.array([value]) for name, value in segment.items()})

    def _add_rows(
        self, salvaged: Salvaged, part: WreckPart, stream: int, begin: int, end: int, *, is_clipped: bool
    ) -> int:
        """Take the readable beginning of some rows; return the step that it reaches."""
        state, reader = self._streams[stream], part.wreck.reader
        steps = {one.name: readable(reader, one, begin, end) for one in self._fields}
        ends = _Ends.of(part, stream)
        count, why = _count(steps, ends, end - begin, first_step=state.num_steps, is_clipped=is_clipped)
        if why:
            salvaged.why[stream] = why
        if count:
            following = {name: column[count : count + 1] for name, column in steps.items() if is_observation(name)}
            kept = {name: column[:count] for name, column in steps.items()}
            salvaged.tables["steps"].append(kept)
            self._live(salvaged, stream, kept, ends, following)
        return state.num_steps

    def _live(self, salvaged: Salvaged, stream: int, steps: Columns, ends: _Ends, following: Columns) -> None:
        """Live through steps that count."""
        state = self._streams[stream]
        at = np.flatnonzero(steps["terminated"] | steps["truncated"])
        stops = state.num_steps + at + 1
        first = np.concatenate([[state.first_step], stops])
        rewards = np.append(steps["reward"].astype(np.float64), 0.0)
        sums = np.add.reduceat(rewards, np.concatenate([[0], at + 1]))
        sums[0] += state.return_
        keys = np.stack([first[:-1], stops - first[:-1], self._seeds_of(stream, first[:-1])], axis=1).astype(np.int64)
        finals = ends.take(stops - 1)
        if not self._is_defined:
            self._hasher.define(self._fields)
            self._is_defined = True
        self._hasher.add_steps(stream, steps)
        self._hasher.add_episodes(stream, keys, finals)
        salvaged.tables["episodes"].append(
            {
                "stream": np.full(len(at), stream),
                "first_step": keys[:, 0],
                "length": keys[:, 1],
                "return": self._returns_of(stream, keys, sums[:-1]),
                "terminated": steps["terminated"][at],
                "truncated": steps["truncated"][at],
                "seed": keys[:, 2],
            }
        )
        salvaged.tables["final_observations"].append({"stream": np.full(len(at), stream), "step": stops - 1, **finals})
        state.num_steps += len(steps["reward"])
        state.first_step, state.return_ = int(first[-1]), float(sums[-1])
        last = ends.take(np.array([state.num_steps - 1]))
        state.following = following if all(map(len, following.values())) else last

    def _add_updates(self, salvaged: Salvaged, part: WreckPart, stop: int | None) -> None:
        """Take the updates that follow those so far, up to where the steps reach."""
        table = part.wreck.rows("updates", part.owner)
        if table is None:
            return
        order = np.argsort(table["update"], kind="stable")
        limit = max(self.num_steps) if stop is None else stop
        order = order[(table["update"][order] >= self._num_updates) & (table["step"][order] <= limit)]
        count = int((table["update"][order] == self._num_updates + np.arange(len(order))).cumprod().sum())
        kept = {name: column[order[:count]] for name, column in table.items()}
        values = {name[len(VALUES) :]: column for name, column in kept.items() if name.startswith(VALUES)}
        for row in range(count):
            self._hasher.add_update(
                self._num_updates + row,
                step=int(kept["step"][row]),
                learning_rate=float(kept["learning_rate"][row]),
                values={name: float(column[row]) for name, column in values.items()},
            )
        self._num_updates += count
        salvaged.tables["updates"].append(kept)

    def _close(self, salvaged: Salvaged, part: WreckPart) -> None:
        """End a part: say what runs on, and whether all is there."""
        running = [i for i, stream in enumerate(self._streams) if stream.first_step < stream.num_steps]
        has_steps = {int(columns["stream"][0]) for columns in salvaged.tables["segments"]}
        for i in has_steps & set(running):
            self._add_running(salvaged, i)
        digest = self._hasher.hexdigest((i, self._key(i), self._streams[i].following) for i in running)
        row = part.row
        counts = {"num_steps": self.num_steps, "num_updates": self._num_updates, "digest": digest}
        salvaged.is_whole = all(getattr(row, name) == value for name, value in counts.items())
        if not salvaged.is_whole:
            ending: dict[str, Any] = {"status": "partial", "error": None, "ended": None, "checkpoint": None}
            salvaged.row = row.model_copy(update={**counts, **ending})

    def _add_running(self, salvaged: Salvaged, stream: int) -> None:
        state = self._streams[stream]
        first, length, seed = self._key(stream)[0].tolist()
        episode = {"stream": stream, "first_step": first, "length": length, "return": state.return_, "seed": seed}
        flags = {"terminated": np.zeros(1, bool), "truncated": np.zeros(1, bool)}
        salvaged.tables["episodes"].append({name: np.array([value]) for name, value in episode.items()} | flags)
        place = {"stream": np.array([stream]), "step": np.array([state.num_steps - 1])}
        salvaged.tables["final_observations"].append(place | state.following)

    def _key(self, stream: int) -> Int64[np.ndarray, "1 3"]:
        """Return the first step, length and seed of the episode that a stream is in."""
        state = self._streams[stream]
        first = np.array([state.first_step])
        return np.stack([first, state.num_steps - first, self._seeds_of(stream, first)], axis=1).astype(np.int64)

    def _seeds_of(self, stream: int, first_step: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        return np.array([self._seeds.get((stream, first), -1) for first in first_step.tolist()], np.int64)

    def _returns_of(self, stream: int, keys: np.ndarray, sums: np.ndarray) -> np.ndarray:
        """Return the returns that the table has where they are the sums, added in whatever order, or else the sums."""
        known = [self._returns.get((stream, *key), np.nan) for key in keys[:, :2].tolist()]
        is_sum = np.isclose(known, sums, rtol=RETURN_TOLERANCE, atol=0, equal_nan=True)
        return np.where(is_sum, known, sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ends:
    """The final observations that one part has of one stream, by step."""

    step: np.ndarray
    observations: Columns

    @classmethod
    def of(cls, part: WreckPart, stream: int) -> _Ends:
        table = part.wreck.rows("final_observations", part.owner)
        if table is None:
            fields = [one for one in part.wreck.reader.header.fields if is_observation(one.name)]
            none = {one.name: np.zeros((0, *one.shape), one.dtype) for one in fields}
            return cls(step=np.zeros(0, np.int64), observations=none)
        rows = np.flatnonzero(table["stream"] == stream)
        rows = rows[np.argsort(table["step"][rows], kind="stable")]
        observations = {name: column[rows] for name, column in table.items() if is_observation(name)}
        return cls(step=table["step"][rows].astype(np.int64), observations=observations)

    def take(self, steps: np.ndarray) -> Columns:
        """Return what follows those of some steps that are known."""
        rows = np.searchsorted(self.step, steps[np.isin(steps, self.step)])
        return {name: column[rows] for name, column in self.observations.items()}


def readable(reader: ShardReader, one: Field, start: int, stop: int) -> Shaped[np.ndarray, "rows ..."]:
    """Read the longest beginning of some rows of a field that can be read, found by halving."""
    found: Any = np.zeros((0, *one.shape), one.dtype)
    low, high, trial = start, stop + 1, stop  # rows up to `low` can be read, up to `high` they cannot
    while high - low > 1:
        problems: list[Problem] = []
        with guarded(problems, ""):
            found = reader.read(one.name, start, trial)
        low, high = (low, trial) if problems else (trial, high)
        trial = (low + high) // 2
    result: np.ndarray = found
    return result


def _count(
    steps: Columns, ends: _Ends, num_rows: int, *, first_step: int, is_clipped: bool
) -> tuple[int, tuple[str, ...]]:
    """Return how many of some rows count, and what cannot be read behind them if not all do."""
    count = min(len(column) for column in steps.values())
    why = tuple(name for name, column in steps.items() if len(column) == count) if count < num_rows else ()
    is_end = steps["terminated"][:count] | steps["truncated"][:count]
    lost = np.flatnonzero(is_end & ~np.isin(first_step + np.arange(count), ends.step))
    if len(lost):
        count, why = int(lost[0]), ("final_observations",)
    is_known = count and (is_end[count - 1] or first_step + count - 1 in ends.step)
    is_followed = all(len(column) > count for name, column in steps.items() if is_observation(name))
    if count and not (is_known or is_followed or (is_clipped and count == num_rows)):
        return count - 1, why or ("final_observations",)
    return count, why


def _known_episodes(
    parts: Sequence[WreckPart],
) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int, int], float]]:
    """Return the seeds by stream and first step, and the returns by stream, first step and length."""
    seeds: dict[tuple[int, int], int] = {}
    returns: dict[tuple[int, int, int], float] = {}
    for part in parts:
        table = part.wreck.rows("episodes", part.owner)
        if table is not None:
            names = ("stream", "first_step", "length", "return", "seed")
            for stream, first, length, total, seed in zip(*(table[name].tolist() for name in names), strict=True):
                seeds[stream, first] = seed
                returns[stream, first, length] = total
    return seeds, returns
