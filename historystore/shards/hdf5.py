"""Shards in HDF5. The one module that imports h5py.

Layout: ``header`` and ``learners`` are JSON in uint8 datasets, ``steps/<field>`` one dataset a field, and
``<table>/<column>`` one dataset a column. Nothing that matters lies in an attribute: every dataset carries fletcher32,
and in the v110 format object headers and chunk indices carry checksums of their own (tests/test_store_damage.py flips
bits all over a file).

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
columns take plain Zstandard, and for a wider one the three are tried on a chunk from its middle: the smallest wins.
Chunks of 4096 to 32768 steps are within 4 % of each other in size, and reading a random window of 200 steps takes a
time that grows with the chunk: 8192 steps, or 256 KiB where that is fewer.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

from historystore.documents import (
    LearnerRow,
    ShardHeader,
    TableShape,
    canonical_json,
    parse_document,
    parse_json,
    validated,
)
from historystore.errors import DamagedData, HistoryError, MissingField, NotAStore, StoreNotFound
from historystore.fields import Field, escape_key, smallest_dtype
from historystore.shards.protocol import TABLES, VALUES, Columns, Profile, ShardReader, ShardTables, is_shard_name

LIBVER = ("v110", "v110")
SIGNATURE = b"\x89HDF\r\n\x1a\n"
CHUNK_STEPS = 8192
CHUNK_BYTES = 256 * 1024
CACHE_BYTES = 2 * CHUNK_BYTES
TABLE_CHUNK_ROWS = 65536
WORTH_BYTES = 4096
"""Below this, choosing costs more than it saves."""
_ZSTD: Mapping[str, Any] = dict(hdf5plugin.Zstd(clevel=3))
_BITS = hdf5plugin.Blosc(cname="zstd", clevel=3, shuffle=hdf5plugin.Blosc.BITSHUFFLE)
_FILTERS: tuple[Mapping[str, Any], ...] = (_ZSTD, {"shuffle": True, **_ZSTD}, dict(_BITS))
_COMPAT_FILTERS: Mapping[str, Any] = {"shuffle": True, "compression": "gzip", "compression_opts": 6}
"""Built into every HDF5 library."""
_NOT_DAMAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)


class Hdf5Format:
    """Shards as ``.h5`` files; compressed with gzip alone in the profile `compat`."""

    suffix = ".h5"

    def __init__(self, *, profile: Profile = "standard") -> None:
        self._filters = _smallest_filters if profile == "standard" else _compat_filters

    def encode(self, tables: ShardTables) -> bytes:
        """Return a shard's file; it is made in memory, so that a full disk never meets an open HDF5 file."""
        with h5py.File("shard", "w", driver="core", backing_store=False, libver=LIBVER) as file:
            self._write_json(file, "header", canonical_json(tables.header))
            self._write_json(file, "learners", canonical_json([row.model_dump(mode="json") for row in tables.learners]))
            for field in tables.header.fields:
                stored = tables.steps[field.name].astype(field.stored_dtype, copy=False)
                self._write(file, f"steps/{field.name}", stored, chunk=_chunk_steps(stored))
            for table in TABLES:
                for name, column in getattr(tables, table).items():
                    self._write(file, _column_path(table, name), _narrowed(column), chunk=TABLE_CHUNK_ROWS)
            file.flush()
            image: bytes = file.id.get_file_image()
            return image

    def open(self, path: Path) -> ShardReader:
        """Return a reader of a shard's file."""
        return Hdf5Shard(path)

    def _write_json(self, file: Any, name: str, data: bytes) -> None:
        self._write(file, name, np.frombuffer(data, "u1"), chunk=len(data))

    def _write(self, file: Any, path: str, array: np.ndarray, *, chunk: int) -> None:
        """Write one dataset; an empty one is not written, its shape is known from the header."""
        if array.size:
            chunk = min(chunk, len(array))
            _create(file, path, array, chunk, self._filters(array, chunk))


class Hdf5Shard(ShardReader):
    """A reader of one ``.h5`` shard; see ShardReader."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pid = -1
        self._file: Any = None
        self._datasets: dict[str, Any] = {}
        self._header: ShardHeader | None = None
        self._learners: tuple[LearnerRow, ...] | None = None
        self._fields: dict[str, Field] = {}

    def __repr__(self) -> str:
        return f"Hdf5Shard({str(self._path)!r})"

    def __reduce__(self) -> tuple[type[Hdf5Shard], tuple[Path]]:
        return Hdf5Shard, (self._path,)

    @property
    def path(self) -> Path:
        """The shard's file."""
        return self._path

    @property
    def header(self) -> ShardHeader:
        """What the shard says about itself."""
        if self._header is None:
            data = self._read_json("header")
            self._header = parse_document(ShardHeader, data, where=f"{self._path}: header")
            self._fields = {field.name: field for field in self._header.fields}
        return self._header

    @property
    def learners(self) -> tuple[LearnerRow, ...]:
        """The learners with data in this shard, each as of this seal."""
        if self._learners is None:
            where = f"{self._path}: learners"
            rows = parse_json(self._read_json("learners"), where=where)
            self._learners = tuple(validated(LearnerRow, row, where=where, is_lenient=True) for row in rows)
        return self._learners

    @property
    def segments(self) -> Columns:
        """Which rows of the steps are which steps of which history."""
        return self._read_table("segments")

    @property
    def episodes(self) -> Columns:
        """The episodes that ended in this shard, and those that were running at its seal."""
        return self._read_table("episodes")

    @property
    def final_observations(self) -> Columns:
        """What followed the last step of each episode, and of each history as of this shard."""
        return self._read_table("final_observations")

    @property
    def updates(self) -> Columns:
        """The learners' updates."""
        return self._read_table("updates")

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
        dataset = self._step_dataset(field)
        spec = self._fields[field]
        if dataset is None:
            return np.zeros((stop - start, *spec.shape), spec.dtype)
        with _damage(self._path, f"{field}, rows {start} to {stop}"):
            try:
                return _logical(dataset[start:stop], np.dtype(spec.dtype))
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
            _check_signature(self._path)
            with _damage(self._path, "the file"):
                # A shard never changes, so no lock is needed, and a read-only disk may not give one.
                self._file = h5py.File(self._path, "r", locking=False, rdcc_nbytes=CACHE_BYTES, rdcc_nslots=1009)
            self._pid = os.getpid()
        return self._file

    def _dataset(self, name: str) -> Any:
        file = self._open_file()
        if name not in self._datasets:
            with _damage(self._path, name):
                self._datasets[name] = file[name]
        return self._datasets[name]

    def _find_damage(self, field: str, start: int, stop: int) -> None:
        """Name the first rows of a range that cannot be read."""
        chunk = self.field_chunk_steps(field)
        for first in range(start - start % chunk, stop, chunk):
            last = min(first + chunk, self.header.num_steps)
            with _damage(self._path, f"{field}, rows {first} to {last}"):
                self._step_dataset(field)[first:last]

    def _step_dataset(self, field: str) -> Any:
        header = self.header
        if field not in self._fields:
            known = ", ".join(sorted(self._fields))
            raise MissingField(f"{self._path}: has no field {field!r}, expected one of {known}. Choose one of those.")
        spec = self._fields[field]
        if not header.num_steps or 0 in spec.shape:
            return None
        dataset = self._dataset(f"steps/{field}")
        if dataset.shape != (header.num_steps, *spec.shape) or dataset.dtype != np.dtype(spec.stored_dtype):
            raise DamagedData(
                f"{self._path}: {field} is {dataset.dtype} of shape {dataset.shape}, expected {spec.stored_dtype} of "
                f"{(header.num_steps, *spec.shape)}. Run hist verify."
            )
        return dataset

    def _read_json(self, name: str) -> bytes:
        dataset = self._dataset(name)
        with _damage(self._path, name):
            return bytes(dataset[:].tobytes())

    def _read_table(self, table: str) -> Columns:
        shape = self.header.tables.get(table, TableShape(num_rows=0, columns=()))
        missing = set(TABLES[table]) - set(shape.columns)
        if missing:
            raise DamagedData(f"{self._path}: {table} lacks {', '.join(sorted(missing))}. Run hist verify.")
        fields = {field.name: field.dtype for field in self.header.fields}
        dtypes = {name: (fields | TABLES[table]).get(name, "<f8") for name in shape.columns}
        return {name: self._read_column(table, name, np.dtype(dtype)) for name, dtype in dtypes.items()}

    def _read_column(self, table: str, name: str, dtype: np.dtype[Any]) -> np.ndarray:
        num_rows = self.header.tables[table].num_rows
        shape = (num_rows, *(self._fields[name].shape if name in self._fields else ()))
        if 0 in shape:
            return np.zeros(shape, dtype)
        dataset = self._dataset(_column_path(table, name))
        if dataset.shape != shape:
            raise DamagedData(f"{self._path}: {table}/{name} is {dataset.shape}, expected {shape}. Run hist verify.")
        with _damage(self._path, f"{table}/{name}"):
            return _logical(dataset[:], dtype)


def _check_signature(path: Path) -> None:
    """Refuse what is no HDF5 file in words of our own."""
    try:
        with path.open("rb") as file:
            signature = file.read(len(SIGNATURE))
    except FileNotFoundError:
        raise StoreNotFound(f"{path}: there is no such shard. Open the store again.") from None
    except OSError as error:
        if error.errno in _NOT_DAMAGE:
            raise
        reason = (error.strerror or "").lower()
        raise StoreNotFound(f"{path}: cannot be read, {reason}. Check its permissions.") from None
    if signature == SIGNATURE:
        return
    if is_shard_name(path.name):
        raise DamagedData(f"{path}: does not begin as an HDF5 file does. Run hist verify; restore it from a copy.")
    raise NotAStore(f"{path}: is no shard, it does not begin as an HDF5 file does. Give a store or a shard.")


@contextmanager
def _damage(path: Path, what: str) -> Iterator[None]:
    """Turn whatever h5py raises over a malformed file into DamagedData."""
    try:
        yield
    except HistoryError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno in _NOT_DAMAGE:
            raise
        reason = " ".join(str(error).split())
        raise DamagedData(
            f"{path}: {what} cannot be read, {reason}. Run hist verify; restore it from a copy."
        ) from error


def _logical(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if array.dtype == dtype:
        return array
    if dtype.kind == "b" and array.dtype.itemsize == 1:
        return array.view(dtype)
    return array.astype(dtype)


def _narrowed(column: np.ndarray) -> np.ndarray:
    """Return a small table's column in the smallest dtype that holds its own values."""
    if column.dtype.kind == "b":
        return column.view("u1")
    if column.dtype.kind not in "iu" or not column.size:
        return column
    return column.astype(smallest_dtype(column.dtype, low=int(column.min()), high=int(column.max())))


def _column_path(table: str, name: str) -> str:
    if name.startswith(VALUES):
        return f"{table}/{VALUES}{escape_key(name[len(VALUES) :])}"
    return f"{table}/{name}"


def _create(file: Any, path: str, array: np.ndarray, chunk: int, filters: Mapping[str, Any]) -> Any:
    chunks = (chunk, *array.shape[1:])
    return file.create_dataset(path, data=array, chunks=chunks, fletcher32=True, track_times=False, **filters)


def _smallest_filters(array: np.ndarray, chunk: int) -> Mapping[str, Any]:
    """Choose the compression of a column; see the table at the top."""
    if array.dtype.itemsize == 1 or array.nbytes < WORTH_BYTES:
        return _ZSTD
    middle = len(array) // 2 // chunk * chunk
    sample = array[middle : middle + chunk]
    with h5py.File("sample", "w", driver="core", backing_store=False, libver=LIBVER) as file:
        sizes = [
            _create(file, str(i), sample, len(sample), filters).id.get_storage_size()
            for i, filters in enumerate(_FILTERS)
        ]
    return _FILTERS[sizes.index(min(sizes))]


def _compat_filters(array: np.ndarray, chunk: int) -> Mapping[str, Any]:
    """Choose compression that any HDF5 reader has, whatever the column."""
    return _COMPAT_FILTERS


def _chunk_steps(array: np.ndarray) -> int:
    """Return a power of two: at most CHUNK_STEPS, CHUNK_BYTES (or one step) and the number of steps there are."""
    step_bytes = max(1, array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64)))
    most = max(1, min(CHUNK_STEPS, CHUNK_BYTES // step_bytes, len(array)))
    return 1 << (most.bit_length() - 1)
