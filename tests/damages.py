"""Where in a shard's file something lies, and what happens to files on bad disks."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pyarrow as pa

from historystore.shards import open_shard
from historystore.shards.encoding import column_path
from historystore.shards.protocol import TABLES


def parts_of(shard: Path) -> Iterator[str]:
    """Yield all that can be damaged in a shard: its documents, step fields and columns with elements."""
    reader = open_shard(shard)
    yield from ("header", "learners")
    for field in reader.header.fields:
        yield f"steps/{field.name}"
    for table in TABLES:
        shape = reader.header.tables[table]
        yield from (f"{table}/{column}" for column in shape.columns if shape.num_rows)
    reader.close()


def place_of(shard: Path, part: str, *, share: float = 0.5) -> int:
    """Return the offset of a byte of a part's data; `share` says how far into it."""
    first, size = (_hdf5_span if shard.suffix == ".h5" else _arrow_span)(shard, part, share)
    return first + min(size - 1, int(size * share))


def flip(data: bytes, place: int, bit: int = 4) -> bytes:
    """Return bytes with a bit flipped."""
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


def flip_in(shard: Path, part: str, *, share: float = 0.5) -> None:
    """Flip a bit of a part of a shard's file."""
    shard.chmod(0o644)
    shard.write_bytes(flip(shard.read_bytes(), place_of(shard, part, share=share)))


def _hdf5_span(shard: Path, part: str, share: float) -> tuple[int, int]:
    table, _, column = part.partition("/")
    path = column_path(table, column) if table in TABLES else part
    with h5py.File(shard, locking=False) as file:
        dataset = file[path] if isinstance(file[path], h5py.Dataset) else file[f"{path}/bytes"]
        number = int(share * dataset.id.get_num_chunks())
        chunk = dataset.id.get_chunk_info(number)
        return chunk.byte_offset, chunk.size


def _arrow_span(shard: Path, part: str, share: float) -> tuple[int, int]:
    """Return where a column of an uncompressed shard lies, or the header in the schema's metadata."""
    data = pa.py_buffer(shard.read_bytes())
    if part == "header":
        return data.to_pybytes().index(b'"family"'), 9
    table, _, column = part.partition("/")
    batches = pa.ipc.open_file(pa.BufferReader(data))
    array = batches.get_batch(1 if table == "steps" else 0).column(table)
    if column:
        array = array.values.field(column)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    buffers = [one for one in array.buffers() if one is not None and one.size]
    return buffers[-1].address - data.address, buffers[-1].size


def _flip(data: bytes, rng: random.Random) -> bytes:
    return flip(data, rng.randrange(len(data)), rng.randrange(8))


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _noise(data: bytes, rng: random.Random) -> bytes:
    place, length = rng.randrange(len(data)), rng.choice([1, 4, 16, 512])
    return data[:place] + rng.randbytes(length) + data[place + length :]


def _zeros(data: bytes, rng: random.Random) -> bytes:
    """A torn write: the file is as long as it should be, but some of its blocks never came."""
    place = rng.randrange(len(data))
    return data[:place] + bytes(min(rng.choice([512, 4096]), len(data) - place)) + data[place:][4096:]


def _insert(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.choice([1, 8, 64])) + data[place:]


def _splice(data: bytes, rng: random.Random) -> bytes:
    """Lay one stretch of a file over another."""
    length = rng.choice([4, 16, 256, 4096])
    start, place = rng.randrange(len(data)), rng.randrange(len(data))
    piece = data[start : start + length]
    return data[:place] + piece + data[place + len(piece) :]


def _random(data: bytes, rng: random.Random) -> bytes:
    return data[:8] + rng.randbytes(rng.randrange(1 + min(len(data), 4096)))


MUTATIONS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flip": _flip,
    "cut": _cut,
    "noise": _noise,
    "zeros": _zeros,
    "insert": _insert,
    "splice": _splice,
    "random": _random,
}
"""Name -> bytes such as a bad disk, or someone hostile, makes of a file's."""
