"""A shard of which only some may be readable, and shards made of what is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from historystore.digest import is_observation
from historystore.documents import LearnerRow, ShardHeader, StoreDocument, TableShape
from historystore.errors import DamagedData
from historystore.parts import joined_rows
from historystore.problems import Problem, guarded
from historystore.shard_check import contradictions, sha256_of
from historystore.shards import ShardReader, ShardTables, open_shard
from historystore.shards.protocol import TABLES, Columns


class Wreck:
    """A shard, of which only some may be readable."""

    def __init__(self, reader: ShardReader, file: str, *, unreadable: Collection[str], is_whole: bool) -> None:
        self.reader = reader
        self.file = file
        """Relative to the store."""
        self.unreadable = frozenset(unreadable)
        """The small tables that cannot be read, or contradict others."""
        self.is_whole = is_whole
        """Its bytes are those that were written, and its tables agree with each other."""
        self._tables: dict[str, Columns] = {}

    @property
    def path(self) -> Path:
        """The shard's file."""
        return self.reader.path

    def rows(self, table: str, owner: int) -> Columns | None:
        """Return one learner's rows of a small table; None where it cannot be read."""
        if table in self.unreadable:
            return None
        if table not in self._tables:
            self._tables[table] = getattr(self.reader, table)
        columns = self._tables[table]
        keep = columns["learner"] == owner
        return {name: column[keep] for name, column in columns.items() if name != "learner"}

    def close(self) -> None:
        """Close the file and forget the tables; what is asked for next is read again."""
        self._tables = {}
        self.reader.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class WreckPart:
    """What one shard holds of one attempt."""

    wreck: Wreck
    owner: int
    """The learner's row in the shard."""
    guessed_segments: Columns | None = None
    """Where its steps must lie if it was written as ours are, for want of the table."""

    @property
    def row(self) -> LearnerRow:
        """The learner as of this seal."""
        return self.wreck.reader.learners[self.owner]

    @property
    def is_guessed(self) -> bool:
        """Whether nothing but a guess says where its steps lie."""
        return self.guessed_segments is not None

    @property
    def has_steps(self) -> bool:
        """Whether it is known to have steps."""
        return self.segments is not None and len(self.segments["stream"]) > 0

    @property
    def segments(self) -> Columns | None:
        """Where its steps lie."""
        rows = self.wreck.rows("segments", self.owner)
        return self.guessed_segments if rows is None else rows


def open_wreck(path: Path, file: str, store: StoreDocument) -> Wreck:
    """Open a shard of a store and read its small tables as far as that is possible.

    Raises:
        DamagedData: it does not say what lies in it, or whose that is; or it is none of this store's.
    """
    problems: list[Problem] = []
    reader = open_shard(path)
    for part in ("header", "learners"):
        with guarded(problems, file, part):
            getattr(reader, part)
        if problems:
            raise DamagedData(str(problems[0]))
    for table in TABLES:
        with guarded(problems, file, table):
            getattr(reader, table)
    if not problems:
        problems += contradictions(reader, file, store)
    for problem in problems:
        if problem.field not in TABLES:
            raise DamagedData(str(problem))
    is_whole = not problems and sha256_of(path) == path.name.partition(".")[0]
    reader.close()
    unreadable = {problem.field for problem in problems if problem.field is not None}
    return Wreck(reader, file, unreadable=unreadable, is_whole=is_whole)


def guessed_segments(wreck: Wreck, before: Sequence[LearnerRow | None]) -> list[Columns] | None:
    """Return where each learner's steps must lie, if the shard was written as ours are, or None if it was not.

    That is learner by learner, stream by stream; how many, the learners' rows say: this seal's and the one `before`.
    """
    segments: list[Columns] = []
    offset = 0
    for row, earlier in zip(wreck.reader.learners, before, strict=True):
        begun = 0 if row.continues is None else row.continues.step
        first = np.array(earlier.num_steps if earlier is not None else [begun] * len(row.num_steps))
        length = np.array(row.num_steps) - first
        stops = offset + np.cumsum(length)
        columns = {"stream": np.arange(len(first)), "first_step": first, "offset": stops - length, "length": length}
        segments.append({name: column[length > 0] for name, column in columns.items()})
        offset = int(stops[-1])
    return segments if offset == wreck.reader.header.num_steps else None


def tables_of(
    store: StoreDocument, header: ShardHeader, row: LearnerRow, rows: Mapping[str, list[Columns]]
) -> ShardTables:
    """Return a shard that holds some rows of one learner."""
    tables = {table: [_owned(0, columns) for columns in rows[table]] for table in TABLES}
    return _joined(store, header, (row,), rows["steps"], tables)


def kept_tables(store: StoreDocument, wreck: Wreck, owners: Sequence[int]) -> ShardTables:
    """Return a shard that holds what another one does of some learners, all of which can be read."""
    reader, steps, offset = wreck.reader, [], 0
    tables: dict[str, list[Columns]] = {table: [] for table in TABLES}
    for number, owner in enumerate(owners):
        for table in TABLES:
            rows = wreck.rows(table, owner)
            assert rows is not None
            if table == "segments":
                steps += _read_segments(reader, rows)
                stops = offset + np.cumsum(rows["length"], dtype=np.int64)
                rows = rows | {"offset": stops - rows["length"]}
                offset = int(stops[-1]) if len(stops) else offset
            tables[table].append(_owned(number, rows))
    return _joined(store, reader.header, tuple(reader.learners[owner] for owner in owners), steps, tables)


def _read_segments(reader: ShardReader, segments: Columns) -> list[Columns]:
    spans = zip(segments["offset"].tolist(), segments["length"].tolist(), strict=True)
    names = [field.name for field in reader.header.fields]
    return [{name: reader.read(name, start, start + length) for name in names} for start, length in spans]


def _joined(
    store: StoreDocument,
    header: ShardHeader,
    learners: tuple[LearnerRow, ...],
    steps: Sequence[Columns],
    rows: Mapping[str, list[Columns]],
) -> ShardTables:
    fields = header.fields if steps else ()
    observations = {field.name: field for field in fields if is_observation(field.name)}
    tables = {
        table: joined_rows(table, rows[table], observations if table == "final_observations" else None)
        for table in ("segments", "episodes", "final_observations")
    }
    tables["updates"] = _joined_updates(rows["updates"])
    columns = {field.name: np.concatenate([part[field.name] for part in steps]) for field in fields}
    shapes = {name: TableShape(num_rows=len(table["learner"]), columns=tuple(table)) for name, table in tables.items()}
    num_steps = sum(len(part["reward"]) for part in steps)
    header = ShardHeader(store=store, fields=fields, num_steps=num_steps, tables=shapes)
    return ShardTables(header=header, learners=learners, steps=columns, **tables)


def _joined_updates(rows: Sequence[Columns]) -> Columns:
    """Join updates; those of one shard log the same values."""
    fixed = joined_rows("updates", rows)
    values = [name for name in (rows[0] if rows else {}) if name not in fixed]
    return fixed | {name: np.concatenate([part[name] for part in rows]) for name in values}


def _owned(learner: int, columns: Columns) -> Columns:
    return {"learner": np.full(len(next(iter(columns.values()))), learner), **columns}
