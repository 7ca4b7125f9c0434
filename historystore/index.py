"""The file that makes opening fast: derived from the shards, and rebuilt whenever in doubt.

``index.arrow`` is an Arrow file with one row a column of the catalog: its name, dtype, encoding and bytes. The row
``shards`` says from which shards, of which sizes, it was made; others make it stale. Integers are stored as differences
in the smallest dtype, everything is compressed with Zstandard, and nothing is decoded before it is asked for.

Arrow checks nothing, so the schema's metadata hold the SHA-256 of the whole file, taken with a
fixed text in its own place: a changed byte is noticed wherever it is, in padding too (tests/test_store_verify.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from historystore.documents import canonical_json
from historystore.errors import WriteFailed
from historystore.fields import smallest_dtype
from historystore.files import replace_file

VERSION = b"4"
"""Of the index alone: an index of another version is rebuilt."""
SHARDS = "shards"
LOST = "lost_shards"
_JSON = "json"
_DIFFERENCES = "differences"
_PLAIN = "plain"
_VERSION_KEY = b"historystore.index"
_DIGEST_KEY = b"historystore.sha256"
_PLACEHOLDER = hashlib.sha256(b"historystore.index").hexdigest().encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One column of the catalog as it is stored."""

    dtype: str
    encoding: str
    num_bytes: int
    data: bytes


class Index:
    """The columns of a catalog, decoded when they are first asked for."""

    def __init__(self, encoded: Mapping[str, Encoded]) -> None:
        self._encoded = dict(encoded)
        self._decoded: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Encoded]:
        return self._encoded

    def __setstate__(self, state: dict[str, Encoded]) -> None:
        self._encoded, self._decoded = state, {}

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> Index:
        """Return the index of a catalog: NumPy arrays, and values of JSON."""
        return cls({name: _encoded(value) for name, value in columns.items()})

    def array(self, name: str) -> np.ndarray:
        """Return a column; it cannot be written to."""
        array: np.ndarray = self._value(name)
        return array

    def json(self, name: str) -> Any:
        """Return a value of JSON."""
        return self._value(name)

    def save(self, path: Path) -> None:
        """Write the index where that is possible; a disk that refuses only makes the next opening slower."""
        with contextlib.suppress(WriteFailed):
            replace_file(path, self.encode())

    def encode(self) -> bytes:
        """Return the bytes of the index's file."""
        import pyarrow as pa

        rows = list(self._encoded.items())
        columns = {
            "name": [name for name, _ in rows],
            "dtype": [row.dtype for _, row in rows],
            "encoding": [row.encoding for _, row in rows],
            "num_bytes": [row.num_bytes for _, row in rows],
            "data": pa.array([row.data for _, row in rows], pa.large_binary()),
        }
        metadata = {_VERSION_KEY: VERSION, _DIGEST_KEY: _PLACEHOLDER}
        table = pa.table(columns).replace_schema_metadata(metadata)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)
        data: bytes = sink.getvalue().to_pybytes()
        return data.replace(_PLACEHOLDER, hashlib.sha256(data).hexdigest().encode())

    def equals(self, other: Index) -> bool:
        """Whether two indices say the same, however they are stored."""
        return self._encoded.keys() == other._encoded.keys() and all(
            np.array_equal(self.array(name), other.array(name), equal_nan=self.array(name).dtype.kind == "f")
            if isinstance(self._value(name), np.ndarray)
            else self.json(name) == other.json(name)
            for name in self._encoded
        )

    def _value(self, name: str) -> Any:
        if name not in self._decoded:
            self._decoded[name] = _decoded(self._encoded[name])
        return self._decoded[name]


def load_index(copies: Iterable[bytes], *, shards: Mapping[str, int]) -> Index | None:
    """Return the index of shards (name -> bytes) from the first copy that is neither stale nor damaged in any way."""
    indices = (parse_index(data) for data in copies)
    return next((index for index in indices if index is not None and index.json(SHARDS) == shards), None)


def known_shards(copies: Iterable[bytes]) -> set[str]:
    """Return every shard that an index was ever made with, as far as the copies tell."""
    indices = [index for index in map(parse_index, copies) if index is not None]
    return {name for index in indices for name in (*index.json(SHARDS), *index.json(LOST))}


def read_index(path: Path) -> Index | None:
    """Return the index in a file, of whatever shards it is; None if it is missing or damaged in any way."""
    try:
        return parse_index(path.read_bytes())
    except OSError:
        return None


def parse_index(data: bytes) -> Index | None:
    """Return the index in a file's bytes, of whatever shards it is; None if they are damaged in any way."""
    import pyarrow as pa

    try:
        with pa.ipc.open_file(pa.py_buffer(data)) as file:
            metadata = file.schema.metadata or {}
            digest = metadata[_DIGEST_KEY]
            is_whole = hashlib.sha256(data.replace(digest, _PLACEHOLDER)).hexdigest().encode() == digest
            if not is_whole or metadata[_VERSION_KEY] != VERSION:
                return None
            rows = file.read_all().to_pylist()
        index = Index({row.pop("name"): Encoded(**row) for row in rows})
        index.json(SHARDS)
        return index
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None


def _encoded(value: Any) -> Encoded:
    if not isinstance(value, np.ndarray):
        return _compressed(canonical_json(value), dtype="|u1", encoding=_JSON)
    if value.dtype.kind in "iu" and value.size:
        steps = np.diff(value.astype(np.int64), prepend=0)
        steps = steps.astype(smallest_dtype(steps.dtype, low=int(steps.min()), high=int(steps.max())))
        encoding = f"{_DIFFERENCES}:{steps.dtype.str}"
        return _compressed(steps.tobytes(), dtype=value.dtype.str, encoding=encoding)
    return _compressed(value.tobytes(), dtype=value.dtype.str, encoding=_PLAIN)


def _compressed(data: bytes, *, dtype: str, encoding: str) -> Encoded:
    import pyarrow as pa

    packed = pa.Codec("zstd", 3).compress(data, asbytes=True) if data else b""
    return Encoded(dtype=dtype, encoding=encoding, num_bytes=len(data), data=packed)


def _decoded(column: Encoded) -> Any:
    import pyarrow as pa

    data = pa.Codec("zstd").decompress(column.data, column.num_bytes, asbytes=True) if column.num_bytes else b""
    if column.encoding == _JSON:
        return json.loads(data)
    encoding, _, stored = column.encoding.partition(":")
    if encoding == _DIFFERENCES:
        array = np.cumsum(np.frombuffer(data, stored), dtype=np.int64).astype(column.dtype, copy=False)
    else:
        array = np.frombuffer(data, column.dtype)
    array.flags.writeable = False
    return array
