"""Arrow IPC files whose framing is checked: everything but the columns' own bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from historystore.errors import DamagedData
from historystore.shards.damage import damage

SIGNATURE = b"ARROW1\x00\x00"
_END = b"ARROW1"
_DIGEST = b"historystore.sha256"
_PLACEHOLDER = hashlib.sha256(_DIGEST).hexdigest().encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The messages of a memory-mapped file; what they hold is not looked at before it is asked for."""

    schema: pa.Schema
    batches: tuple[Any, ...]
    """The messages of the record batches, undecoded."""

    @property
    def metadata(self) -> Mapping[bytes, bytes]:
        """What the schema's metadata say."""
        metadata: Mapping[bytes, bytes] = self.schema.metadata
        return metadata

    @property
    def is_compressed(self) -> bool:
        """Whether any column of any batch is."""
        return any(_is_elsewhere(self.batch(index), message) for index, message in enumerate(self.batches))

    def batch(self, index: int) -> pa.RecordBatch:
        """Decode a batch; where it is not compressed, its columns lie in the memory map."""
        return pa.ipc.read_record_batch(self.batches[index], self.schema)


def _is_elsewhere(batch: pa.RecordBatch, message: Any) -> bool:
    """Whether columns of a batch lie outside its message, because they were decompressed."""
    start, stop = message.body.address, message.body.address + message.body.size
    buffers = [buffer for column in batch.columns for buffer in column.buffers() if buffer is not None and buffer.size]
    return any(not start <= buffer.address < stop for buffer in buffers)


def framed(schema: pa.Schema, batches: Sequence[pa.RecordBatch], *, codec: pa.Codec | None) -> bytes:
    """Return an Arrow IPC file; its schema's metadata also hold the digest of its framing."""
    schema = schema.with_metadata({**schema.metadata, _DIGEST: _PLACEHOLDER})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as file:
        for batch in batches:
            file.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    digest = _digest(_messages(pa.BufferReader(data)), _PLACEHOLDER)
    head, placeholder, tail = data.partition(_PLACEHOLDER)
    footer, _, end = tail.rpartition(placeholder)
    return b"".join((head, digest, footer, digest, end))


def open_frame(path: Path) -> Frame:
    """Map a file into memory and check its framing.

    Raises:
        DamagedData: it is cut, or a byte outside its columns is not what was written.
    """
    with damage(path, "the file"):
        source = pa.memory_map(str(path))
        if source.read_at(len(_END), max(0, source.size() - len(_END))) != _END:
            raise DamagedData(f"{path}: does not end as an Arrow file does. Run hist verify; restore it from a copy.")
        messages = _messages(source)
        schema = pa.ipc.read_schema(messages[0])
        digest = (schema.metadata or {}).get(_DIGEST, b"")
        is_whole = len(digest) == len(_PLACEHOLDER) and _digest(messages, digest) == digest
    if not is_whole:
        raise DamagedData(f"{path}: its framing is not what was written. Run hist verify; restore it from a copy.")
    return Frame(schema=schema, batches=tuple(messages[1:]))


def _messages(source: Any) -> list[Any]:
    """Return the messages of a file: behind its signature it reads as a stream, which has no need of the footer."""
    source.seek(len(SIGNATURE))
    messages: list[Any] = []
    while True:
        try:
            message = pa.ipc.read_message(source)
        except EOFError:
            return messages
        messages.append(message)


def _digest(messages: Sequence[Any], digest: bytes) -> bytes:
    """Return the SHA-256 of the messages' metadata, taken with a fixed text in the digest's own place."""
    hashed = hashlib.sha256(messages[0].metadata.to_pybytes().replace(digest, _PLACEHOLDER))
    for message in messages[1:]:
        hashed.update(message.metadata.to_pybytes())
    return hashed.hexdigest().encode()
