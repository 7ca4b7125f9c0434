"""NumPy columns as Arrow arrays and back without a copy, and their checksums."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import pyarrow as pa

from historystore.fields import Field

_NATIVE = frozenset("iuf")


def to_arrow(column: np.ndarray) -> pa.Array:
    """Return a column as an Arrow array without nulls: numbers, fixed-shape tensors, or large binary."""
    if column.dtype.kind == "O":
        return pa.array(column.tolist(), pa.large_binary())
    column = _native(column)
    flat = pa.array(column.reshape(-1))
    shape = column.shape[1:]
    if not shape:
        return flat
    if 0 in shape:
        return pa.nulls(len(column), pa.null())
    storage = pa.FixedSizeListArray.from_arrays(flat, math.prod(shape))
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(flat.type, list(shape)), storage)


def to_numpy(array: pa.Array, field: Field) -> np.ndarray:
    """Return a column of numbers without a copy, in the dtype it is stored in.

    A number that Arrow does not have comes back in its logical dtype, which is the one it was stored in.
    """
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(array, pa.FixedSizeListArray):
        array = array.values
    flat: np.ndarray = array.to_numpy(zero_copy_only=True)
    if not _is_native(np.dtype(field.stored_dtype)):
        flat = flat.view(field.stored_dtype)
    return flat.reshape(-1, *field.shape)


def packed_parts(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of a packed column's values (one more than values, the first 0) and their bytes."""
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, np.int64)[: len(array) + 1] if offsets is not None else np.zeros(1, np.int64)
    return bounds, np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)


def checks_of(array: pa.Array, block_rows: int) -> list[int]:
    """Return the CRC-32 of each block of rows of a column."""
    return [check_of(array, start, start + block_rows) for start in range(0, len(array), block_rows)]


def check_of(array: pa.Array, start: int, stop: int) -> int:
    """Return the CRC-32 of some rows as they lie in memory.

    Of packed ones, that of their ends, counted from the first one's start so that it is the same in any batch, and then
    of their bytes.
    """
    stop = min(stop, len(array))
    if pa.types.is_large_binary(array.type):
        bounds, data = packed_parts(array)
        ends = bounds[start : stop + 1]
        return zlib.crc32(data[max(0, ends[0]) : max(0, ends[-1])].data, zlib.crc32((ends - ends[:1]).data))
    rows = _as_bytes(array)
    return zlib.crc32(rows[start:stop])


def _as_bytes(array: pa.Array) -> Any:
    """Return the bytes of a column of numbers, (rows, bytes of one)."""
    length = len(array)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(array, pa.FixedSizeListArray):
        array = array.values
    return array.to_numpy(zero_copy_only=True).view(np.uint8).reshape(length, -1)


def _is_native(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in _NATIVE and dtype.itemsize <= 8


def _native(column: np.ndarray) -> np.ndarray:
    """Return a column such that Arrow has its dtype: flags as uint8, complex and wide numbers as their bytes."""
    column = np.ascontiguousarray(column)
    if column.dtype.kind == "b":
        return column.view(np.uint8)
    if _is_native(column.dtype):
        return column
    return column.reshape(*column.shape, 1).view(np.uint8)
