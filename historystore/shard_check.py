"""Is one shard what its name says, and do its tables agree with each other?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool

from historystore.documents import StoreDocument
from historystore.fields import unflatten
from historystore.packed import VARIABLE
from historystore.problems import Problem, guarded
from historystore.shards import ShardReader
from historystore.shards.checks import table_problems
from historystore.shards.protocol import TABLES
from historystore.spaces import space_from_json

SHARED = ("format", "family", "observation_space", "action_space")
"""What a shard's copy of its store's document shares with every store that it may lie in; the id only says where it
was written."""
BLOCK_BYTES = 1 << 22
BLOCK_STEPS = 1 << 16


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read in blocks."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            hashed.update(block)
    return hashed.hexdigest()


def damage(reader: ShardReader, file: str) -> list[Problem]:
    """Read all of a shard; name each part, and the rows of each field, that cannot be read.

    Nothing is named where a file is damaged in bytes that hold no data.
    """
    problems = unlike_header(reader, file)
    unread = {problem.field for problem in problems}
    if "header" not in unread:
        for field in reader.header.fields:
            problems += [] if field.name in unread else _damaged_rows(reader, file, field.name)
    return problems


def unlike_header(reader: ShardReader, file: str) -> list[Problem]:
    """Name each part that is not there as the header says, as far as that shows without reading the steps."""
    problems: list[Problem] = []
    for part in ("header", "learners", *TABLES):
        with guarded(problems, file, part):
            getattr(reader, part)
        if problems and part == "header":
            return problems
    for field in reader.header.fields:
        with guarded(problems, file, field.name):
            reader.field_chunk_steps(field.name)
    return problems


def contradictions(reader: ShardReader, file: str, store: StoreDocument | None) -> Iterator[Problem]:
    """Yield where a readable shard's tables contradict each other, or the store."""
    header = reader.header
    names = [name for name in SHARED if store is not None and getattr(header.store, name) != getattr(store, name)]
    if names:
        message = f"cannot lie in this store: its {', '.join(names)} are not those of store.json. Move it to its own."
        yield Problem(file=file, field="header", message=message)
    for text in table_problems(reader):
        table, _, message = text.partition(": ")
        yield Problem(file=file, field=table, message=f"{message}.")


def notes(reader: ShardReader, file: str) -> Iterator[Problem]:
    """Yield how many observations and actions lie outside their space: stored as they came, but worth knowing."""
    header = reader.header
    for prefix, document in (("observation", header.store.observation_space), ("action", header.store.action_space)):
        space = space_from_json(document)
        names = [field.name for field in header.fields if field.name.partition("/")[0] == prefix]
        num_outside, first = 0, 0
        for start in range(0, header.num_steps if names else 0, BLOCK_STEPS):
            stop = min(start + BLOCK_STEPS, header.num_steps)
            columns = {name: reader.read(name, start, stop) for name in names}
            rows = np.flatnonzero(_is_outside(space, unflatten(prefix, space, columns)))
            first = start + int(rows[0]) if len(rows) and not num_outside else first
            num_outside += len(rows)
        if num_outside:
            message = f"{num_outside} of {header.num_steps} values lie outside the space, as the environment gave them."
            yield Problem(file=file, field=prefix, rows=(first, first + 1), message=message, is_note=True)


def _is_outside(space: spaces.Space[Any], values: Any) -> Bool[np.ndarray, " rows"]:
    """Say which values of a batch lie outside a space, in any of its parts."""
    parts = _parts(space, values)
    if parts is not None:
        result: np.ndarray = np.any([_is_outside(part, value) for part, value in parts], axis=0)
        return result
    if isinstance(space, VARIABLE):
        return np.array([not space.contains(value) for value in values], bool)
    if isinstance(space, spaces.Box):
        inside = (values >= space.low) & (values <= space.high)  # NaN is not
    elif isinstance(space, spaces.Discrete):
        inside = (values >= space.start) & (values < space.start + space.n)
    elif isinstance(space, spaces.MultiDiscrete):
        inside = (values >= space.start) & (values < space.start + space.nvec)
    else:
        inside = (values == 0) | (values == 1)
    outside: np.ndarray = ~inside.all(axis=tuple(range(1, values.ndim)))
    return outside


def _parts(space: spaces.Space[Any], values: Any) -> list[tuple[spaces.Space[Any], Any]] | None:
    """Return the parts of a Dict or Tuple space with their values; None for another."""
    if isinstance(space, spaces.Dict):
        return [(part, values[key]) for key, part in space.spaces.items()]
    if isinstance(space, spaces.Tuple):
        return list(zip(space.spaces, values, strict=True))
    return None


def _damaged_rows(reader: ShardReader, file: str, field: str) -> list[Problem]:
    """Name each run of rows of a field that cannot be read; rows are compressed, and so lost, by the chunk."""
    problems: list[Problem] = []
    chunk = reader.field_chunk_steps(field)
    runs: list[list[int]] = []
    for start in range(0, reader.header.num_steps, chunk):
        stop = min(start + chunk, reader.header.num_steps)
        found: list[Problem] = []
        with guarded(found, file, field):
            reader.read(field, start, stop)
        if found and runs and runs[-1][1] == start:
            runs[-1][1] = stop
        elif found:
            problems += found
            runs.append([start, stop])
    rows = [(start, stop) for start, stop in runs]
    return [problem.model_copy(update={"rows": span}) for problem, span in zip(problems, rows, strict=True)]
