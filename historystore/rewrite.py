"""Shards made of shards: pure functions of tables, which keep every value of what they keep.

A segment says where steps lie, so choosing, cutting and joining are all the same: make the segments, then lay the steps
out as they say, history by history. What these functions return replaces nothing and has its own counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from historystore.documents import LearnerRow, ShardHeader, TableShape, canonical_json
from historystore.fields import Field
from historystore.shards.protocol import TABLES, VALUES, Columns, ShardTables

Layout = tuple[tuple[str, str, tuple[int, ...], str], ...]
_KEYS = {
    "episodes": ("learner", "stream", "first_step", "length"),
    "final_observations": ("learner", "stream", "step"),
    "updates": ("learner", "update"),
}
"""The columns of a small table that tell its rows apart, and by which they are sorted."""
_END = np.iinfo(np.int64).max


def layout(header: ShardHeader) -> Layout:
    """Return what shards must share to be joined; `()` fits any, for it has no steps."""
    return tuple(sorted((field.name, field.dtype, field.shape, field.encoding) for field in header.fields))


def selected(tables: ShardTables, rows: Sequence[int]) -> ShardTables:
    """Keep some rows of a shard's learners, and all that is theirs."""
    place = np.full(len(tables.learners), -1)
    place[list(rows)] = np.arange(len(rows))
    kept = {name: _renumbered(getattr(tables, name), place) for name in TABLES}
    kept["updates"] = _without_empty(kept["updates"])
    return _laid_out(tables, tuple(tables.learners[row] for row in rows), kept)


def clipped(tables: ShardTables, stops: Mapping[int, int]) -> ShardTables:
    """Cut some rows of a shard's learners off at a per-stream step; the row itself stays as it was recorded.

    Args:
        tables: of the shard.
        stops: row among its learners -> the first step that goes.
    """
    stop_of = np.full(len(tables.learners), _END)
    stop_of[list(stops)] = list(stops.values())
    stop = {name: stop_of[getattr(tables, name)["learner"]] for name in TABLES}
    segments, episodes = tables.segments, tables.episodes
    length = np.clip(stop["segments"] - segments["first_step"], 0, segments["length"])
    kept = {
        "segments": _taken({**segments, "length": length}, length > 0),
        "episodes": _taken(episodes, episodes["first_step"] + episodes["length"] <= stop["episodes"]),
        "final_observations": _taken(
            tables.final_observations, tables.final_observations["step"] < stop["final_observations"]
        ),
        "updates": _taken(tables.updates, tables.updates["step"] <= stop["updates"]),
    }
    return _laid_out(tables, tables.learners, kept)


def joined(parts: Sequence[ShardTables]) -> ShardTables:
    """Join shards of one layout; rows of one attempt become one, as of its latest seal, and no step is there twice.

    Episodes that were running at a seal stay, though their attempt went on: they count where the rest is lost.
    """
    rows, places = _joined_rows(parts)
    full = [part for part in parts if part.header.fields] or list(parts[:1])
    fields = tuple(_joined_field(field, full) for field in full[0].header.fields)
    steps = {field.name: np.concatenate([part.steps[field.name] for part in full]) for field in fields}
    first = np.cumsum([0, *(part.header.num_steps for part in parts)])
    tables: dict[str, list[Columns]] = {name: [] for name in TABLES}
    for part, place, offset in zip(parts, places, first, strict=False):
        for name, columns in tables.items():
            columns.append(_renumbered(getattr(part, name), place))
        tables["segments"][-1]["offset"] = tables["segments"][-1]["offset"] + offset
    whole = {name: _concatenated(columns) for name, columns in tables.items()}
    small = {name: _distinct(whole[name], by=keys) for name, keys in _KEYS.items()}
    header = full[0].header.model_copy(update={"fields": fields})
    base = replace(full[0], header=header, steps=steps)
    return _laid_out(base, rows, {"segments": _without_overlaps(whole["segments"]), **small})


def _laid_out(base: ShardTables, learners: tuple[LearnerRow, ...], tables: Mapping[str, Columns]) -> ShardTables:
    """Lay the base's steps out by learner, stream and step, as segments say; count everything anew."""
    segments = _sorted(tables["segments"], by=("learner", "stream", "first_step"))
    rows = _step_rows(segments)
    offset = np.cumsum(segments["length"]) - segments["length"]
    tables = {**tables, "segments": _unbroken({**segments, "offset": offset})}
    tables = {name: _in_own_dtypes(name, tables[name]) for name in TABLES}
    num_rows = max((len(column) for column in base.steps.values()), default=0)
    is_all = np.array_equal(rows, np.arange(num_rows))
    shapes = {name: (len(columns["learner"]), tuple(columns)) for name, columns in tables.items()}
    header = ShardHeader(
        store=base.header.store,
        fields=base.header.fields,
        num_steps=len(rows),
        tables={name: TableShape(num_rows=num_rows, columns=names) for name, (num_rows, names) in shapes.items()},
    )
    steps = {name: column if is_all else column[rows] for name, column in base.steps.items()}
    return ShardTables(header=header, learners=learners, steps=steps, **tables)


def _joined_rows(parts: Sequence[ShardTables]) -> tuple[tuple[LearnerRow, ...], list[Int[np.ndarray, " rows"]]]:
    """Return the attempts of some shards, each once, and which of them each shard's rows are."""
    known: dict[tuple[str, str], int] = {}
    rows: list[LearnerRow] = []
    places = []
    for part in parts:
        place = [known.setdefault((row.learner, row.attempt), len(known)) for row in part.learners]
        for i, row in zip(place, part.learners, strict=True):
            if i == len(rows):
                rows.append(row)
            rows[i] = max(rows[i], row, key=lambda each: (each.sequence, canonical_json(each)))
        places.append(np.array(place, np.int64))
    return tuple(rows), places


def _joined_field(field: Field, parts: Sequence[ShardTables]) -> Field:
    """Return a field with a stored dtype that holds the values of all parts."""
    stored = {each.stored_dtype for part in parts for each in part.header.fields if each.name == field.name}
    if len(stored) == 1:
        return field
    wide, logical = np.result_type(*stored), np.dtype(field.dtype)
    holds_all = wide.itemsize <= logical.itemsize and np.can_cast(wide, logical)
    return field.model_copy(update={"stored_dtype": wide.str if holds_all else logical.str})


def _step_rows(segments: Columns) -> Int[np.ndarray, " steps"]:
    """Return the rows of the steps that segments name, one segment behind the other."""
    length = segments["length"].astype(np.int64)
    start = np.cumsum(length) - length
    rows: np.ndarray = np.arange(length.sum()) + np.repeat(segments["offset"] - start, length)
    return rows


def _unbroken(segments: Columns) -> Columns:
    """Join neighbours of one history that go on without a gap; they are sorted, and lie one behind the other."""
    is_new = np.ones(len(segments["learner"]), bool)
    stop = segments["first_step"] + segments["length"]
    is_new[1:] = (segments["first_step"][1:] != stop[:-1]) | _changes(segments, ("learner", "stream"))
    length = np.add.reduceat(segments["length"], np.flatnonzero(is_new)) if is_new.size else segments["length"]
    return {**_taken(segments, is_new), "length": length}


def _without_overlaps(segments: Columns) -> Columns:
    """Cut segments such that no step of an attempt lies in two; of an overlap the longest that begins first stays."""
    segments = _sorted({**segments, "-length": -segments["length"]}, by=("learner", "stream", "first_step", "-length"))
    del segments["-length"]
    first, length = segments["first_step"].astype(np.int64), segments["length"].astype(np.int64)
    is_new = np.ones(len(first), bool)
    is_new[1:] = _changes(segments, ("learner", "stream"))
    skip, reached = np.zeros_like(first), 0
    for row in range(len(first)):
        reached = 0 if is_new[row] else reached
        skip[row] = np.clip(reached - first[row], 0, length[row])
        reached = max(reached, int(first[row] + length[row]))
    cut = {"first_step": first + skip, "offset": segments["offset"] + skip, "length": length - skip}
    return _taken({**segments, **cut}, length > skip)


def _concatenated(parts: Sequence[Columns]) -> Columns:
    """Put tables one behind the other; a value that no learner of a shard logged is NaN there."""
    full = [part for part in parts if len(part["learner"])] or [max(parts, key=len)]
    names = dict.fromkeys(name for part in full for name in part)
    return {
        name: np.concatenate([part.get(name, np.full(len(part["learner"]), np.nan)) for part in full]) for name in names
    }


def _distinct(columns: Columns, *, by: tuple[str, ...]) -> Columns:
    """Sort rows by their keys, and keep each once."""
    columns = _sorted(columns, by=by)
    is_new = np.ones(len(columns["learner"]), bool)
    is_new[1:] = _changes(columns, by)
    return _taken(columns, is_new)


def _changes(columns: Columns, names: Sequence[str]) -> Bool[np.ndarray, " rows_but_one"]:
    """Say which rows differ from the one before them."""
    changes: np.ndarray = np.any([np.diff(columns[name]) != 0 for name in names], axis=0)
    return changes


def _renumbered(columns: Columns, place: Int[np.ndarray, " rows"]) -> Columns:
    """Give each row its learner's new place, and leave out those without one."""
    learner = place[columns["learner"]]
    return _taken({**columns, "learner": learner}, learner >= 0)


def _without_empty(updates: Columns) -> Columns:
    """Leave out values that none of the learners logged."""
    empty = {name for name, column in updates.items() if name.startswith(VALUES) and np.isnan(column).all()}
    return {name: column for name, column in updates.items() if name not in empty}


def _in_own_dtypes(table: str, columns: Columns) -> Columns:
    return {name: column.astype(TABLES[table].get(name, column.dtype), copy=False) for name, column in columns.items()}


def _sorted(columns: Columns, *, by: Sequence[str]) -> Columns:
    return _taken(columns, np.lexsort([columns[name] for name in reversed(by)]))


def _taken(columns: Columns, rows: np.ndarray) -> Columns:
    return {name: column[rows] for name, column in columns.items()}
