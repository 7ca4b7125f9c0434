"""What one seal takes from each learner, and the shard that they make together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from historystore.buffers import Episodes, StepBuffer
from historystore.documents import LearnerRow, ShardHeader, StoreDocument, TableShape
from historystore.fields import Field
from historystore.shards.protocol import TABLES, VALUES, Columns, ShardTables


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Observations that follow the last steps of episodes, or of histories as of a seal."""

    stream: Int64[np.ndarray, " n"]
    step: Int64[np.ndarray, " n"]
    observations: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One update of a learner."""

    update: int
    step: int
    wall_time_s: float
    learning_rate: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LearnerPart:
    """What a learner brings to a shard."""

    row: LearnerRow
    fields: tuple[Field, ...]
    first_step: int
    steps: StepBuffer | None
    episodes: Sequence[Episodes]
    ends: Sequence[Ends]
    updates: Sequence[Update]

    @property
    def layout(self) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """What two learners must share to lie in one shard."""
        return tuple((field.name, field.dtype, field.shape) for field in self.fields)


def grouped(parts: Sequence[LearnerPart]) -> list[list[LearnerPart]]:
    """Split parts into those that can lie in one shard together; parts without steps can lie anywhere."""
    groups: dict[object, list[LearnerPart]] = {}
    for part in parts:
        if part.fields:
            groups.setdefault(part.layout, []).append(part)
    stepless = [part for part in parts if not part.fields]
    if stepless:
        groups.setdefault(next(iter(groups), None), []).extend(stepless)
    return list(groups.values())


def shard_tables(store: StoreDocument, parts: Sequence[LearnerPart]) -> ShardTables:
    """Return the shard that some parts of one layout make, one behind the other."""
    fields, steps = _steps(parts)
    segments = _segments(parts)
    episodes = joined_rows(
        "episodes", [_owned(i, rows.columns()) for i, part in enumerate(parts) for rows in part.episodes]
    )
    ends = [
        _owned(i, {"stream": rows.stream, "step": rows.step, **rows.observations})
        for i, part in enumerate(parts)
        for rows in part.ends
    ]
    observations = {field.name: field for field in fields if field.name.partition("/")[0] == "observation"}
    tables = {
        "segments": segments,
        "episodes": episodes,
        "final_observations": joined_rows("final_observations", ends, observations),
        "updates": _updates(parts),
    }
    header = ShardHeader(
        store=store,
        fields=fields,
        num_steps=int(segments["length"].sum()),
        tables={
            name: TableShape(num_rows=len(columns["learner"]), columns=tuple(columns))
            for name, columns in tables.items()
        },
    )
    return ShardTables(header=header, learners=tuple(part.row for part in parts), steps=steps, **tables)


def _steps(parts: Sequence[LearnerPart]) -> tuple[tuple[Field, ...], Columns]:
    buffers = [part.steps for part in parts if part.steps is not None]
    fields = next((part.fields for part in parts if part.fields), ())
    steps: Columns = {}
    if not buffers:
        return (), steps
    for field in fields:
        steps[field.name] = np.concatenate([buffer.column(field.name) for buffer in buffers])
    stored = tuple(field.model_copy(update={"stored_dtype": steps[field.name].dtype.str}) for field in fields)
    return stored, steps


def _segments(parts: Sequence[LearnerPart]) -> Columns:
    columns, offset = [], 0
    for i, part in enumerate(parts):
        if part.steps is None:
            continue
        num_streams, length = part.steps.num_streams, part.steps.num_steps
        streams = np.arange(num_streams)
        columns.append(
            _owned(
                i,
                {
                    "stream": streams,
                    "first_step": np.full(num_streams, part.first_step),
                    "offset": offset + streams * length,
                    "length": np.full(num_streams, length),
                },
            )
        )
        offset += num_streams * length
    return joined_rows("segments", columns)


def _updates(parts: Sequence[LearnerPart]) -> Columns:
    rows = [(i, update) for i, part in enumerate(parts) for update in part.updates]
    names = sorted({name for _, row in rows for name in row.values})
    table: dict[str, list[float]] = {name: [] for name in TABLES["updates"]}
    values: dict[str, list[float]] = {name: [] for name in names}
    for i, row in rows:
        for name, value in zip(table, (i, row.update, row.step, row.wall_time_s, row.learning_rate), strict=True):
            table[name].append(value)
        for name in names:
            values[name].append(row.values.get(name, np.nan))
    fixed = {name: np.array(column, TABLES["updates"][name]) for name, column in table.items()}
    return fixed | {f"{VALUES}{name}": np.array(column, "<f8") for name, column in values.items()}


def _owned(learner: int, columns: Mapping[str, np.ndarray]) -> Columns:
    return {"learner": np.full(len(columns["stream"]), learner), **columns}


def joined_rows(table: str, rows: Sequence[Columns], observations: Mapping[str, Field] | None = None) -> Columns:
    """Join rows of a table, also if there are none; a final observation's columns are those of some fields."""
    columns: Columns = {}
    for name, dtype in TABLES[table].items():
        columns[name] = np.concatenate([np.zeros(0, dtype), *(part[name].astype(dtype) for part in rows)])
    for name, field in (observations or {}).items():
        empty = np.zeros((0, *field.shape), field.dtype)
        columns[name] = np.concatenate([empty, *(part[name] for part in rows)])
    return columns
