"""Shards in HDF5. The one module that imports h5py.

Layout: ``header`` and ``learners`` are JSON in uint8 datasets, ``steps/<field>`` one dataset a field, and
``<table>/<column>`` one dataset a column; values of no fixed size (a *packed* field) take two, ``.../bytes`` and
``.../ends``, for HDF5 checks no variable-length types. Nothing that matters lies in an attribute: every dataset carries
fletcher32, and in the v110 format object headers and chunk indices carry checksums of their own
(tests/test_store_damage.py flips bits all over a file).

Compression, stored bytes a step in chunks of 8192 steps. On the left 128 000 steps of PPO on Dark Room (16 learners of
one stream), on the right 640 000 steps of a made-up learner whose log-probabilities and values never repeat:

================  ===  ========  ==========  ==============  =  ========  ==========  ==============
column            raw  zstd 3    shuffle, 3  blosc bits, 3      zstd 3    shuffle, 3  blosc bits, 3
================  ===  ========  ==========  ==============  =  ========  ==========  ==============
observation u1x2  2    **0.24**  0.24        0.27               **0.27**  0.27        0.33
action u1         1    **0.20**  0.20        0.22               **0.21**  0.21        0.22
truncated u1      1    **.004**  .004        .007               **.004**  .004        .007
reward f4         4    0.12      0.12        **0.05**           0.19      0.21        **0.07**
log_prob f4       4    **0.92**  1.43        1.95               2.24      **1.95**    2.19
value f4          4    **0.62**  1.10        1.53               **1.52**  1.67        1.84
================  ===  ========  ==========  ==============  =  ========  ==========  ==============

(Zstandard's level 9 saves another tenth at a tenth of the speed; Blosc2 was nowhere smaller than Blosc.) So one-byte
columns take plain Zstandard, and for a wider one the three are tried on chunks from all over it: the smallest wins.
Chunks of 4096 to 32768 steps are within 4 % of each other in size, and reading a random window of 200 steps takes a
time that grows with the chunk: 8192 steps, or 256 KiB where that is fewer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from historystore.documents import canonical_json
from historystore.errors import DamagedData, InvalidValue
from historystore.fields import Field
from historystore.shards.damage import damage
from historystore.shards.encoding import column_path, joined, narrowed_by_values, parted
from historystore.shards.file_shard import FileShard, check_signature, logical
from historystore.shards.protocol import TABLES, Profile, ShardReader, ShardTables

LIBVER = ("v110", "v110")
SIGNATURE = b"\x89HDF\r\n\x1a\n"
CHUNK_STEPS = 8192
CHUNK_BYTES = 256 * 1024
CACHE_BYTES = 2 * CHUNK_BYTES
TABLE_CHUNK_ROWS = 65536
SAMPLE_CHUNKS = 4
WORTH_BYTES = 4096
"""Below this, choosing costs more than it saves."""
ARCHIVE_CHUNK_STEPS = 65536
ARCHIVE_CHUNK_BYTES = 8 * CHUNK_BYTES
_Filters = Mapping[str, Any]


def _choices(*, level: int) -> tuple[_Filters, ...]:
    """Return Zstandard at a level: plain, behind a byte shuffle, and in Blosc behind a bit shuffle."""
    zstd = dict(hdf5plugin.Zstd(clevel=level))
    bits = hdf5plugin.Blosc(cname="zstd", clevel=min(level, 9), shuffle=hdf5plugin.Blosc.BITSHUFFLE)
    return zstd, {"shuffle": True, **zstd}, dict(bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How a profile writes: the compressions to choose from, and how much is compressed together at most."""

    filters: tuple[_Filters, ...]
    chunk_steps: int = CHUNK_STEPS
    chunk_bytes: int = CHUNK_BYTES


_WAYS: Mapping[str, _Way] = {
    "standard": _Way(filters=_choices(level=3)),
    "archive": _Way(filters=_choices(level=19), chunk_steps=ARCHIVE_CHUNK_STEPS, chunk_bytes=ARCHIVE_CHUNK_BYTES),
    # Built into every HDF5 library.
    "compat": _Way(filters=({"shuffle": True, "compression": "gzip", "compression_opts": 6},)),
}


class Hdf5Format:
    """Shards as ``.h5`` files."""

    suffix = ".h5"

    def __init__(self, *, profile: Profile = "standard") -> None:
        if profile not in _WAYS:
            raise InvalidValue(f"profile: an HDF5 shard is {', '.join(_WAYS)}, got {profile!r}. Choose one of those.")
        self._way = _WAYS[profile]

    def encode(self, tables: ShardTables) -> bytes:
        """Return a shard's file; it is made in memory, so that a full disk never meets an open HDF5 file."""
        with h5py.File("shard", "w", driver="core", backing_store=False, libver=LIBVER) as file:
            self._write_json(file, "header", canonical_json(tables.header))
            self._write_json(file, "learners", canonical_json([row.model_dump(mode="json") for row in tables.learners]))
            for field in tables.header.fields:
                stored = tables.steps[field.name].astype(field.stored_dtype, copy=False)
                self._write(file, f"steps/{field.name}", stored, chunk=self._chunk_steps(stored))
            for table in TABLES:
                for name, column in getattr(tables, table).items():
                    self._write(file, column_path(table, name), narrowed_by_values(column), chunk=TABLE_CHUNK_ROWS)
            file.flush()
            image: bytes = file.id.get_file_image()
            return image

    def open(self, path: Path) -> ShardReader:
        """Return a reader of a shard's file."""
        return Hdf5Shard(path)

    def with_header(self, path: Path, header: bytes) -> bytes:
        """Return a shard's file with another header; its chunks are copied as they are, compressed."""
        with (
            damage(path, "the file"),
            h5py.File(path, "r", locking=False) as source,
            h5py.File("shard", "w", driver="core", backing_store=False, libver=LIBVER) as file,
        ):
            _create_like(file, source["header"], np.frombuffer(header, "u1"))
            for name in source:
                if name != "header":
                    source.copy(source[name], file, name=name)
            file.flush()
            image: bytes = file.id.get_file_image()
            return image

    def _write_json(self, file: Any, name: str, data: bytes) -> None:
        self._write(file, name, np.frombuffer(data, "u1"), chunk=len(data))

    def _write(self, file: Any, path: str, array: np.ndarray, *, chunk: int) -> None:
        """Write one dataset; an empty one is not written, its shape is known from the header."""
        if array.size and array.dtype.kind == "O":
            ends, data = joined(array)
            self._write(file, f"{path}/ends", narrowed_by_values(ends), chunk=chunk)
            self._write(file, f"{path}/bytes", data, chunk=CHUNK_BYTES)
        elif array.size:
            chunk = min(chunk, len(array))
            _create(file, path, array, chunk, _smallest(self._way.filters, array, chunk))

    def _chunk_steps(self, array: np.ndarray) -> int:
        """Return a power of two: as many steps as the profile allows, and no more than there are."""
        step_bytes = max(1, array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64)))
        most = max(1, min(self._way.chunk_steps, self._way.chunk_bytes // step_bytes, len(array)))
        return 1 << (most.bit_length() - 1)


class Hdf5Shard(FileShard):
    """A reader of one ``.h5`` shard; see ShardReader."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._pid = -1
        self._file: Any = None
        self._datasets: dict[str, Any] = {}

    @property
    def chunk_steps(self) -> int:
        """The largest number of rows that any field compresses together."""
        return max((self.field_chunk_steps(field.name) for field in self.header.fields), default=CHUNK_STEPS)

    def field_chunk_steps(self, field: str) -> int:
        """Return how many rows of one field are compressed together."""
        dataset = self._step_dataset(field)
        return CHUNK_STEPS if dataset is None else int(dataset.chunks[0])

    def read(self, field: str, start: int, stop: int) -> np.ndarray:
        """Read rows of one step field, in its logical dtype."""
        spec = self._field(field)
        dataset = self._step_dataset(field)
        if dataset is None or start == stop:
            return np.zeros((stop - start, *spec.shape), spec.dtype)
        with damage(self._path, f"{field}, rows {start} to {stop}"):
            try:
                return self._rows(f"steps/{field}", spec, start, stop)
            except (OSError, ValueError, RuntimeError):
                self._find_damage(field, start, stop)
                raise

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        self._datasets = {}
        if self._file is not None and self._pid == os.getpid():
            self._file.close()
        self._file = None

    def _open_file(self) -> Any:
        if self._file is None or self._pid != os.getpid():
            self._datasets = {}
            check_signature(self._path, SIGNATURE, kind="HDF5")
            with damage(self._path, "the file"):
                # A shard never changes, so no lock is needed, and a read-only disk may not give one.
                self._file = h5py.File(self._path, "r", locking=False, rdcc_nbytes=CACHE_BYTES, rdcc_nslots=1009)
            self._pid = os.getpid()
        return self._file

    def _dataset(self, name: str) -> Any:
        file = self._open_file()
        if name not in self._datasets:
            with damage(self._path, name):
                self._datasets[name] = file[name]
        return self._datasets[name]

    def _find_damage(self, field: str, start: int, stop: int) -> None:
        """Name the first rows of a range that cannot be read."""
        chunk, spec = self.field_chunk_steps(field), self._field(field)
        for first in range(start - start % chunk, stop, chunk):
            last = min(first + chunk, self.header.num_steps)
            with damage(self._path, f"{field}, rows {first} to {last}"):
                self._rows(f"steps/{field}", spec, first, last)

    def _rows(self, path: str, field: Field, start: int, stop: int) -> np.ndarray:
        """Read rows of a dataset, or of the two that hold values of no fixed size."""
        if not field.is_packed:
            return logical(self._dataset(path)[start:stop], np.dtype(field.dtype))
        before = max(start - 1, 0)
        ends = self._dataset(f"{path}/ends")[before:stop].astype(np.int64)
        first, ends = (int(ends[0]), ends[1:]) if start else (0, ends)
        size = int(ends[-1]) - first
        data = self._dataset(f"{path}/bytes")[first : first + size] if size else np.zeros(0, np.uint8)
        return parted(ends - first, data)

    def _step_dataset(self, field: str) -> Any:
        """Return the dataset with a row for each step; None where there is no element."""
        spec, num_steps = self._field(field), self.header.num_steps
        if not num_steps or 0 in spec.shape:
            return None
        dataset = self._dataset(f"steps/{field}/ends" if spec.is_packed else f"steps/{field}")
        expected = dataset.dtype if spec.is_packed else np.dtype(spec.stored_dtype)
        if dataset.shape != (num_steps, *spec.shape) or dataset.dtype != expected:
            raise DamagedData(
                f"{self._path}: {field} is {dataset.dtype} of shape {dataset.shape}, expected {spec.stored_dtype} of "
                f"{(num_steps, *spec.shape)}. Run hist verify."
            )
        return dataset

    def _read_json(self, name: str) -> bytes:
        dataset = self._dataset(name)
        with damage(self._path, name):
            return bytes(dataset[:].tobytes())

    def _read_column(self, table: str, name: str, field: Field) -> np.ndarray:
        path, num_rows = column_path(table, name), self.header.tables[table].num_rows
        dataset = self._dataset(f"{path}/ends" if field.is_packed else path)
        if dataset.shape != (num_rows, *field.shape):
            raise DamagedData(
                f"{self._path}: {table}/{name} is {dataset.shape}, expected {(num_rows, *field.shape)}. "
                "Run hist verify."
            )
        with damage(self._path, f"{table}/{name}"):
            return self._rows(path, field, 0, num_rows)


def _create(file: Any, path: str, array: np.ndarray, chunk: int, filters: _Filters) -> Any:
    chunks = (chunk, *array.shape[1:])
    return file.create_dataset(path, data=array, chunks=chunks, fletcher32=True, track_times=False, **filters)


def _create_like(file: Any, other: Any, array: np.ndarray) -> None:
    """Create a dataset of one chunk under another one's name and with its filters, so that no plugin is added."""
    properties = other.id.get_create_plist()
    properties.set_chunk(array.shape)
    space = h5py.h5s.create_simple(array.shape)
    dataset = h5py.h5d.create(file.id, other.name.encode(), other.id.get_type(), space, properties)
    h5py.Dataset(dataset)[:] = array


def _smallest(choices: tuple[_Filters, ...], array: np.ndarray, chunk: int) -> _Filters:
    """Choose the compression of a column; see the table at the top."""
    if len(choices) == 1 or array.dtype.itemsize == 1 or array.nbytes < WORTH_BYTES:
        return choices[0]
    num_chunks = -(-len(array) // chunk)
    chosen = sorted({(2 * i + 1) * num_chunks // (2 * SAMPLE_CHUNKS) for i in range(SAMPLE_CHUNKS)})
    sample = np.concatenate([array[i * chunk : (i + 1) * chunk] for i in chosen])
    with h5py.File("sample", "w", driver="core", backing_store=False, libver=LIBVER) as file:
        sizes = [
            _create(file, str(i), sample, chunk, filters).id.get_storage_size() for i, filters in enumerate(choices)
        ]
    return choices[sizes.index(min(sizes))]
