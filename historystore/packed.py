"""Values of no fixed size as bytes: those of Text, Sequence, Graph and OneOf spaces, whatever they are nested in.

A value's bytes follow from its space alone, parts back to back, numbers little-endian, counts as uint32:

===================================  ====================================================================
space                                bytes
===================================  ====================================================================
Box, Discrete, Multi...              the array in the space's dtype, C order
Dict, Tuple                          each part, in the space's order
Text                                 number of bytes, UTF-8
Sequence                             number of items, each item
OneOf                                which part, its value
Graph                                number of nodes, the nodes; number of edges + 1, the edges; number of
                                     links + 1, the links as int32 pairs; 0 alone stands for "None"
===================================  ====================================================================
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array, iterate

from historystore.errors import DamagedData, InvalidValue

VARIABLE = (spaces.Text, spaces.Sequence, spaces.Graph, spaces.OneOf)
"""The kinds of spaces whose values have no fixed shape."""
_COUNT = struct.Struct("<I")
_MAX_COUNT = 2**32 - 2
_LINKS = spaces.Box(0, 2**31 - 1, (2,), np.int32)


def pack(space: spaces.Space[Any], value: Any) -> bytes:
    """Return the bytes of one value of a space.

    Raises:
        InvalidValue: the value is not of the space's kind, or its dtype cannot hold it.
    """
    try:
        for kind, (to_bytes, _) in _KINDS.items():
            if isinstance(space, kind):
                return to_bytes(space, value)
        return _pack_array(space, value)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, AssertionError) as error:
        if isinstance(error, InvalidValue):
            raise
        reason = " ".join(str(error).split())
        raise InvalidValue(f"pack: is no value of {space}, {reason}. Give it as the environment did.") from None


def unpack(space: spaces.Space[Any], data: bytes) -> Any:
    """Return the value whose bytes these are.

    Raises:
        DamagedData: they are not the bytes of one value of the space.
    """
    cursor = _Cursor(data)
    try:
        value = _unpacked(space, cursor)
    except (ValueError, IndexError, AssertionError, OverflowError, MemoryError) as error:
        if isinstance(error, DamagedData):
            raise
        reason = " ".join(str(error).split())
        raise DamagedData(f"unpack: not the bytes of a value of {space}, {reason}. Run hist verify.") from None
    if cursor.place != len(data):
        raise DamagedData(f"unpack: {len(data) - cursor.place} bytes behind a value of {space}. Run hist verify.")
    return value


class _Cursor:
    """Takes bytes one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, size: int) -> bytes:
        part = self.data[self.place : self.place + size]
        if len(part) != size:
            raise DamagedData(f"unpack: {size} bytes expected, {len(part)} left. Run hist verify.")
        self.place += size
        return part

    def count(self) -> int:
        return int(_COUNT.unpack(self.take(4))[0])

    def array(self, space: spaces.Space[Any], *leading: int) -> np.ndarray:
        shape = (*leading, *(space.shape or ()))
        dtype = np.dtype(space.dtype).newbyteorder("<")
        data = self.take(math.prod(shape) * dtype.itemsize)
        return np.frombuffer(data, dtype).reshape(shape).astype(space.dtype)


def _unpacked(space: spaces.Space[Any], cursor: _Cursor) -> Any:
    for kind, (_, from_bytes) in _KINDS.items():
        if isinstance(space, kind):
            return from_bytes(space, cursor)
    array = cursor.array(space)
    return array[()] if isinstance(space, spaces.Discrete) else array


def _pack_count(count: int) -> bytes:
    if count > _MAX_COUNT:
        raise InvalidValue(f"pack: {count} parts, expected at most {_MAX_COUNT}. Split the value.")
    return _COUNT.pack(count)


def _pack_array(space: spaces.Space[Any], value: Any, *leading: int) -> bytes:
    array, shape = np.asarray(value), (*leading, *(space.shape or ()))
    dtype = np.dtype(space.dtype)
    cast = array.astype(dtype)
    if array.shape != shape or not np.array_equal(cast, array, equal_nan=cast.dtype.kind == "f"):
        raise InvalidValue(
            f"pack: {array.dtype} of shape {array.shape} is no value of {space}, expected {dtype} of {shape}. "
            "Give it as the environment did."
        )
    return cast.astype(dtype.newbyteorder("<"), copy=False).tobytes()


def _pack_text(space: spaces.Text, value: Any) -> bytes:
    data: bytes = value.encode()
    return _pack_count(len(data)) + data


def _unpack_text(space: spaces.Text, cursor: _Cursor) -> str:
    return cursor.take(cursor.count()).decode()


def _pack_sequence(space: spaces.Sequence, value: Any) -> bytes:
    items = list(iterate(space.stacked_feature_space, value)) if space.stack else list(value)
    return _pack_count(len(items)) + b"".join(pack(space.feature_space, item) for item in items)


def _unpack_sequence(space: spaces.Sequence, cursor: _Cursor) -> Any:
    items = tuple(_unpacked(space.feature_space, cursor) for _ in range(cursor.count()))
    if not space.stack:
        return items
    out: Any = create_empty_array(space.feature_space, len(items))
    return concatenate(space.feature_space, items, out)


def _pack_one_of(space: Any, value: Any) -> bytes:
    index = int(value[0])
    if not 0 <= index < len(space.spaces):
        raise InvalidValue(f"pack: part {index} of {space} does not exist. Give one of its {len(space.spaces)}.")
    return _pack_count(index) + pack(space.spaces[index], value[1])


def _unpack_one_of(space: Any, cursor: _Cursor) -> tuple[int, Any]:
    index = cursor.count()
    return index, _unpacked(space.spaces[index], cursor)


def _pack_graph(space: spaces.Graph, value: Any) -> bytes:
    nodes = _pack_count(len(value.nodes)) + _pack_array(space.node_space, value.nodes, len(value.nodes))
    return nodes + _pack_optional(space.edge_space, value.edges) + _pack_optional(_LINKS, value.edge_links)


def _pack_optional(space: spaces.Space[Any] | None, value: Any) -> bytes:
    if value is None:
        return _pack_count(0)
    if space is None:
        raise InvalidValue("pack: a graph has edges, its space has none. Give it as the environment did.")
    return _pack_count(len(value) + 1) + _pack_array(space, value, len(value))


def _unpack_graph(space: spaces.Graph, cursor: _Cursor) -> spaces.GraphInstance:
    nodes = cursor.array(space.node_space, cursor.count())
    edges, links = (_unpack_optional(part, cursor) for part in (space.edge_space, _LINKS))
    return spaces.GraphInstance(nodes=nodes, edges=edges, edge_links=links)


def _unpack_optional(space: spaces.Space[Any] | None, cursor: _Cursor) -> Any:
    count = cursor.count()
    if not count:
        return None
    if space is None:
        raise DamagedData("unpack: a graph has edges, its space has none. Run hist verify.")
    return cursor.array(space, count - 1)


def _pack_dict(space: Any, value: Any) -> bytes:
    return b"".join(pack(part, value[key]) for key, part in space.spaces.items())


def _unpack_dict(space: Any, cursor: _Cursor) -> dict[str, Any]:
    return {key: _unpacked(part, cursor) for key, part in space.spaces.items()}


def _pack_tuple(space: Any, value: Any) -> bytes:
    return b"".join(pack(part, item) for part, item in zip(space.spaces, value, strict=True))


def _unpack_tuple(space: Any, cursor: _Cursor) -> tuple[Any, ...]:
    return tuple(_unpacked(part, cursor) for part in space.spaces)


_KINDS: Mapping[type, tuple[Callable[[Any, Any], bytes], Callable[[Any, _Cursor], Any]]] = {
    spaces.Text: (_pack_text, _unpack_text),
    spaces.Sequence: (_pack_sequence, _unpack_sequence),
    spaces.OneOf: (_pack_one_of, _unpack_one_of),
    spaces.Graph: (_pack_graph, _unpack_graph),
    spaces.Dict: (_pack_dict, _unpack_dict),
    spaces.Tuple: (_pack_tuple, _unpack_tuple),
}
