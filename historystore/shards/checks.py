"""Whether a shard's small tables make sense together; checksums say only that they are what was written."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np

from historystore.errors import DamagedData
from historystore.shards.protocol import Columns, ShardReader


def check_catalog_tables(shard: ShardReader, *, segments: Columns, episodes: Columns) -> None:
    """Refuse a shard whose learners, segments and episodes contradict each other.

    Raises:
        DamagedData: they do.
    """
    num_streams = _num_streams(shard)
    problems = chain(
        _row_problems(shard),
        _owner_problems("segments", segments, num_streams),
        _owner_problems("episodes", episodes, num_streams),
        _segment_problems(segments, shard.header.num_steps),
    )
    problem = next(problems, None)
    if problem is not None:
        raise DamagedData(f"{shard.path}: {problem}. Run hist verify; restore it from a copy.")


def table_problems(shard: ShardReader) -> Iterator[str]:
    """Give everything that is wrong with a shard's small tables."""
    num_streams = _num_streams(shard)
    segments, updates = shard.segments, shard.updates
    yield from _row_problems(shard)
    yield from _owner_problems("segments", segments, num_streams)
    yield from _owner_problems("episodes", shard.episodes, num_streams)
    yield from _owner_problems("final_observations", shard.final_observations, num_streams)
    yield from _owner_problems("updates", {**updates, "stream": np.zeros_like(updates["learner"])}, num_streams)
    yield from _segment_problems(segments, shard.header.num_steps)


def _num_streams(shard: ShardReader) -> np.ndarray:
    return np.array([row.spec.num_streams for row in shard.learners], np.int64)


def _row_problems(shard: ShardReader) -> Iterator[str]:
    for i, row in enumerate(shard.learners):
        if row.learner != row.spec.id:
            yield f"learners, row {i}: the id {row.learner[:12]} is not that of its specification"
        if len(row.num_steps) != row.spec.num_streams:
            yield f"learners, row {i}: num_steps has {len(row.num_steps)} streams, expected {row.spec.num_streams}"


def _owner_problems(table: str, columns: Columns, num_streams: np.ndarray) -> Iterator[str]:
    learner, stream = columns["learner"], columns["stream"]
    if learner.size and not (learner.min() >= 0 and learner.max() < len(num_streams)):
        yield f"{table}: learner is no row of the learners"
    elif stream.size and not (stream.min() >= 0 and (stream < num_streams[learner]).all()):
        yield f"{table}: stream is not one of the learner's"


def _segment_problems(segments: Columns, num_steps: int) -> Iterator[str]:
    order = np.argsort(segments["offset"], kind="stable")
    offset, length = segments["offset"][order], segments["length"][order]
    if (segments["first_step"] < 0).any() or (length < 0).any():
        yield "segments: a first step or length is negative"
    expected = np.concatenate([[0], np.cumsum(length)])
    if not np.array_equal(offset, expected[:-1]) or expected[-1] != num_steps:
        yield f"segments: do not cover each of the {num_steps} steps once"
