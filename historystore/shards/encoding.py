"""How columns are prepared for a file: narrowed, and values of no fixed size joined."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from historystore.errors import DamagedData
from historystore.fields import escape_key, smallest_dtype
from historystore.shards.protocol import VALUES


class Joined(NamedTuple):
    """The bytes of values of no fixed size, back to back, and where each ends."""

    ends: Int64[np.ndarray, " rows"]
    data: UInt8[np.ndarray, " bytes"]


def joined(values: Shaped[np.ndarray, " rows"]) -> Joined:
    """Join the bytes of some values."""
    data = np.frombuffer(b"".join(values.tolist()), np.uint8)
    return Joined(ends=np.cumsum([len(value) for value in values], dtype=np.int64), data=data)


def parted(ends: Int64[np.ndarray, " rows"], data: UInt8[np.ndarray, " bytes"]) -> Shaped[np.ndarray, " rows"]:
    """Return the values that were joined, their ends counted in `data`.

    Raises:
        DamagedData: the ends do not fit the bytes.
    """
    bounds = np.concatenate([np.zeros(1, np.int64), ends])
    if (np.diff(bounds) < 0).any() or bounds[-1] != len(data):
        raise DamagedData("values of no fixed size: their ends do not fit their bytes. Run hist verify.")
    whole = data.tobytes()
    values = np.empty(len(ends), object)
    values[:] = [whole[start:stop] for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
    return values


def narrowed_by_values(column: np.ndarray) -> np.ndarray:
    """Return a small table's column in the smallest dtype that holds its own values."""
    if column.dtype.kind == "b":
        return column.view("u1")
    if column.dtype.kind not in "iu" or not column.size:
        return column
    return column.astype(smallest_dtype(column.dtype, low=int(column.min()), high=int(column.max())))


def column_path(table: str, name: str) -> str:
    """Return where a small table's column lies in a shard."""
    if name.startswith(VALUES):
        return f"{table}/{VALUES}{escape_key(name[len(VALUES) :])}"
    return f"{table}/{name}"
