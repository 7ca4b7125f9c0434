"""Are an attempt's steps, episodes, final observations and updates, over all its shards, what its rows say?

Everything is computed anew from the steps: where episodes end and what they return from flags and rewards, digests with
the hasher that the writer used. Nothing is taken from the index.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from historystore.digest import LearnerHasher
from historystore.documents import LearnerRow
from historystore.problems import Problem
from historystore.shards import ShardReader
from historystore.shards.protocol import TABLES, VALUES, Columns
from historystore.stream_check import Shards, StreamWalk, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one shard holds of one attempt: its row, and its rows of each table."""

    file: str
    reader: ShardReader
    row: LearnerRow
    tables: dict[str, Table]

    @property
    def has_steps(self) -> bool:
        """Whether there are steps of it in this shard, or only news of it."""
        return len(self.tables["segments"].row) > 0


def parts_of(reader: ShardReader, file: str) -> list[Part]:
    """Return what a shard holds of each attempt."""
    tables = {name: _by_owner(getattr(reader, name), len(reader.learners)) for name in TABLES}
    return [
        Part(file=file, reader=reader, row=row, tables={name: owned[owner] for name, owned in tables.items()})
        for owner, row in enumerate(reader.learners)
    ]


def attempt_problems(parts: Sequence[Part]) -> Iterator[Problem]:
    """Yield what is wrong with one attempt; nothing of one that continues another, whose steps lie in both.

    Raises:
        DamagedData: a shard of it cannot be read.
    """
    parts = by_seal(parts)
    if parts[-1].row.continues is not None:
        return
    problems = list(row_problems(parts))
    yield from problems
    if not problems:
        yield from _walk_problems(parts)


def by_seal(parts: Sequence[Part]) -> list[Part]:
    """Return an attempt's parts in the order in which they were sealed."""
    return sorted(parts, key=lambda part: (part.row.sequence, part.file))


def row_problems(parts: Sequence[Part]) -> Iterator[Problem]:
    """Yield where an attempt's parts have other fields than each other, and rows that do not grow; no step is read."""
    parts = by_seal(parts)
    with_steps = [part for part in parts if part.has_steps]
    for part in with_steps[1:]:
        if _layout(part) != _layout(with_steps[0]):
            message = f"has other fields than {with_steps[0].file}, which holds the same learner."
            yield Problem(file=part.file, field="header", message=message)
    for part in parts:
        if len(part.row.num_steps) != part.row.spec.num_streams:
            message = f"learner {part.row.learner[:12]}: num_steps does not count each of its streams."
            yield Problem(file=part.file, field="learners", message=message)
            return
    for before, after in itertools.pairwise(parts):
        shrinks = bool(np.greater(before.row.num_steps, after.row.num_steps).any())
        if shrinks or before.row.num_updates > after.row.num_updates:
            message = f"learner {after.row.learner[:12]}: has less of it than the earlier {before.file}."
            yield Problem(file=after.file, field="learners", message=message)


def _walk_problems(parts: Sequence[Part]) -> Iterator[Problem]:
    """Follow every stream from one seal to the next, and compare the digest at each."""
    row = parts[0].row
    shards = Shards(
        learner=row.learner,
        files=[part.file for part in parts],
        readers=[part.reader for part in parts],
        tables={name: _joined(parts, name) for name in TABLES},
        fields=next((part.reader.header.fields for part in parts if part.has_steps), ()),
    )
    hasher = LearnerHasher(row.learner, num_streams=row.spec.num_streams)
    if shards.fields:
        hasher.define(shards.fields)
    streams = [StreamWalk(shards, stream, hasher) for stream in range(row.spec.num_streams)]
    updates = _distinct(shards.tables["updates"])
    num_updates = 0
    for part in parts:
        stops = zip(streams, part.row.num_steps, strict=True)
        problems = [problem for walk, stop in stops for problem in walk.follow(stop, file=part.file)]
        problems += _add_updates(hasher, updates, part, start=num_updates)
        yield from problems
        if problems:
            return
        num_updates = part.row.num_updates
        digest = hasher.hexdigest(walk.running() for walk in streams if walk.is_running)
        if digest != part.row.digest:
            message = f"learner {row.learner[:12]}: its digest is {part.row.digest[:12]}, its data have {digest[:12]}."
            yield Problem(file=part.file, field="learners", message=message)
    for walk in streams:
        yield from walk.table_problems()


def _distinct(updates: Table) -> Table:
    """Return updates by number, and those that are the same once: stores that were merged may both hold them."""
    updates = updates.taken(np.argsort(updates.columns["update"], kind="stable"))
    is_new = np.ones(len(updates.row), bool)
    columns = [column for name, column in updates.columns.items() if name != "learner"]
    is_new[1:] = np.any([~_is_same(column[1:], column[:-1]) for column in columns], axis=0)
    return updates.taken(is_new)


def _is_same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    same: np.ndarray = (one == other) | ((one != one) & (other != other))
    return same


def _add_updates(hasher: LearnerHasher, table: Table, part: Part, *, start: int) -> list[Problem]:
    """Feed the updates that one seal adds to those before it."""
    stop = part.row.num_updates
    first, last = np.searchsorted(table.columns["update"], (start, stop))
    if not np.array_equal(table.columns["update"][first:last], np.arange(start, stop)):
        message = f"learner {part.row.learner[:12]}: updates {start} to {stop} are not there once each."
        return [Problem(file=part.file, field="updates", message=message)]
    columns = {name: column[first:last].tolist() for name, column in table.columns.items()}
    names = [name for name in columns if name.startswith(VALUES)]
    for i in range(stop - start):
        hasher.add_update(
            start + i,
            step=columns["step"][i],
            learning_rate=columns["learning_rate"][i],
            values={name[len(VALUES) :]: columns[name][i] for name in names},
        )
    return []


def _by_owner(columns: Columns, num_learners: int) -> list[Table]:
    """Split a shard's table by learner."""
    order = np.argsort(columns["learner"], kind="stable")
    bounds = np.searchsorted(columns["learner"][order], np.arange(num_learners + 1))
    table = Table(columns=columns, shard=np.zeros_like(order), row=np.arange(len(order)))
    return [table.taken(order[start:stop]) for start, stop in itertools.pairwise(bounds)]


def _joined(parts: Sequence[Part], name: str) -> Table:
    """Join the parts' rows of a table; a value that no learner of a shard logged is NaN there."""
    tables = [part.tables[name] for part in parts]
    shard = np.repeat(np.arange(len(parts)), [len(table.row) for table in tables])
    full = [table for table in tables if len(table.row)] or tables[:1]
    names = dict.fromkeys(column for table in full for column in table.columns)
    return Table(
        columns={
            column: np.concatenate([table.columns.get(column, np.full(len(table.row), np.nan)) for table in full])
            for column in names
        },
        shard=shard,
        row=np.concatenate([table.row for table in full]),
    )


def _layout(part: Part) -> list[tuple[str, str, tuple[int, ...]]]:
    return sorted((field.name, field.dtype, field.shape) for field in part.reader.header.fields)
