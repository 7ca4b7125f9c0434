"""Windows gathered right from memory-mapped shards: nothing is decompressed, copied beforehand or kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int64

from historystore.fields import Field
from historystore.shards import ShardReader
from historystore.windows.histories import offsets


def gathered_from_maps(
    fields: Sequence[Field],
    *,
    shard: Int64[np.ndarray, " spans"],
    row: Int64[np.ndarray, " spans"],
    count: Int64[np.ndarray, " spans"],
    reader_of: Callable[[int], ShardReader],
) -> dict[str, np.ndarray]:
    """Return some fields at all rows of some spans, back to back.

    Args:
        fields: their logical dtypes and shapes.
        shard: the shard that each span lies in.
        row: its first row there.
        count: how many rows it has.
        reader_of: gives a shard's reader.
    """
    order = np.argsort(shard, kind="stable")
    rows = each_row(row[order], count[order])
    place = each_row(offsets(count)[:-1][order], count[order])
    heads = np.flatnonzero(np.diff(shard[order], prepend=-1))
    first_row = offsets(count[order])[np.append(heads, len(order))]
    columns = {field.name: np.empty((len(rows), *field.shape), field.dtype) for field in fields}
    for head, (low, high) in zip(heads.tolist(), pairwise(first_row.tolist()), strict=True):
        reader = reader_of(int(shard[order[head]]))
        for name, column in columns.items():
            column[place[low:high]] = reader.take(name, rows[low:high])
    return columns


def each_row(start: Int64[np.ndarray, " spans"], count: Int64[np.ndarray, " spans"]) -> Int64[np.ndarray, " rows"]:
    """Return every row of some spans, one after the other."""
    before = offsets(count)
    return np.repeat(start - before[:-1], count) + np.arange(before[-1])
