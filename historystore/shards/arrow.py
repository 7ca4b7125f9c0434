"""Shards as Arrow IPC files.

A column of the file's schema is a table of the shard, and each value of it a list of that table's rows: ``segments``,
``episodes``, ``final_observations``, ``updates`` and ``steps``; ``learners`` is JSON. The first record batch holds
everything but the steps, each other one a block of steps. Values of several numbers are fixed-shape tensors, flags
uint8, values of no fixed size large binary. Where nothing is compressed (`fast`) all steps are one batch, which a
memory map gives without a copy.

Arrow itself checks nothing. So the schema's metadata hold, beside the header, the CRC-32 of every `block_rows` rows of
every column, compared when a block is first touched in a process, and the SHA-256 of the metadata of all messages; the
file's footer is for other readers (tests/test_store_damage.py flips bits all over a file).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from historystore.documents import canonical_json, parse_json
from historystore.errors import DamagedData, InvalidValue
from historystore.fields import Field
from historystore.shards.arrow_columns import check_of, checks_of, packed_parts, to_arrow, to_numpy
from historystore.shards.arrow_frame import SIGNATURE, Frame, framed, open_frame
from historystore.shards.damage import damage
from historystore.shards.encoding import narrowed_by_values, parted
from historystore.shards.file_shard import FileShard, check_signature, logical
from historystore.shards.protocol import TABLES, Columns, Profile, ShardReader, ShardTables
from historystore.words import gathered, in_words

BLOCK_ROWS = 1 << 16
BLOCK_BYTES = 1 << 20
ARCHIVE_LEVEL = 19
MAX_BATCHES = 16
"""Of compressed batches, that a reader remembers decoded."""
_HEADER = b"historystore.header"
_CHECKS = b"historystore.crc32"
_BLOCK_ROWS = b"historystore.block_rows"
_STEPS = "steps"
_LEARNERS = "learners"


class ArrowFormat:
    """Shards as ``.arrow`` files: as they are in memory (`fast`), or compressed with Zstandard (`archive`)."""

    suffix = ".arrow"

    def __init__(self, *, profile: Profile = "fast") -> None:
        if profile not in ("fast", "archive"):
            raise InvalidValue(f"profile: an Arrow shard is fast or archive, got {profile!r}. Choose one of those.")
        self._is_compressed = profile == "archive"

    def encode(self, tables: ShardTables) -> bytes:
        """Return a shard's file."""
        stored = {field.name: np.dtype(field.stored_dtype) for field in tables.header.fields}
        steps = {name: tables.steps[name].astype(dtype, copy=False) for name, dtype in stored.items()}
        small = {table: _narrowed(getattr(tables, table)) for table in TABLES}
        learners = canonical_json([row.model_dump(mode="json") for row in tables.learners])
        num_steps, rows = tables.header.num_steps, _block_rows(steps)
        first = _batch({**small, _STEPS: _rows(steps, 0, 0)}, learners)
        none = {table: _rows(columns, 0, 0) for table, columns in small.items()}
        batch_rows = rows if self._is_compressed else max(1, num_steps)
        starts = range(0, num_steps, batch_rows)
        blocks = [_batch({**none, _STEPS: _rows(steps, start, start + batch_rows)}) for start in starts]
        metadata = {
            _HEADER: canonical_json(tables.header),
            _BLOCK_ROWS: str(rows).encode(),
            _CHECKS: canonical_json(_checks({**small, _STEPS: steps}, learners, rows)),
        }
        codec = pa.Codec("zstd", ARCHIVE_LEVEL) if self._is_compressed else None
        return framed(first.schema.with_metadata(metadata), [first, *blocks], codec=codec)

    def open(self, path: Path) -> ShardReader:
        """Return a reader of a shard's file."""
        return ArrowShard(path)

    def with_header(self, path: Path, header: bytes) -> bytes:
        """Return a shard's file with another header, compressed again if it is."""
        frame = open_frame(path)
        with damage(path, "the file"):
            batches = [frame.batch(index) for index in range(len(frame.batches))]
            schema = frame.schema.with_metadata({**frame.metadata, _HEADER: header})
            codec = pa.Codec("zstd", ARCHIVE_LEVEL) if frame.is_compressed else None
            return framed(schema, batches, codec=codec)


class ArrowShard(FileShard):
    """A reader of one ``.arrow`` shard; see ShardReader. It maps its file into memory, and forks share the map."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.close()

    @property
    def chunk_steps(self) -> int:
        """How many rows are checked together, and compressed together if they are."""
        rows: int = self._parsed_metadata(_BLOCK_ROWS)
        return rows

    def field_chunk_steps(self, field: str) -> int:
        """Return how many rows of one field are checked together."""
        self._field(field)
        return self.chunk_steps

    @property
    def is_mapped(self) -> bool:
        """Whether the steps lie in the file as they do in memory."""
        return len(self._open_frame().batches) <= 2

    def read(self, field: str, start: int, stop: int) -> np.ndarray:
        """Read rows of one step field, in its logical dtype."""
        spec = self._field(field)
        if start == stop or 0 in spec.shape:
            return np.zeros((stop - start, *spec.shape), spec.dtype)
        batch_rows, num_steps = self._batch_rows(), self.header.num_steps
        parts = []
        for first in range(start - start % batch_rows, stop, batch_rows):
            column = self._column(_STEPS, field, 1 + first // batch_rows, num_rows=min(batch_rows, num_steps - first))
            low, high = max(start, first) - first, min(stop, first + batch_rows) - first
            parts.append(self._read_rows(column, _STEPS, spec, low, high, first=first))
        return np.array(parts[0]) if len(parts) == 1 else np.concatenate(parts)

    def take(self, field: str, rows: np.ndarray) -> np.ndarray:
        """Gather rows of one step field, in its logical dtype; from an uncompressed file, right from its map."""
        spec = self._field(field)
        if not self.is_mapped or spec.is_packed or 0 in spec.shape or not len(rows):
            return super().take(field, rows)
        array, key = self._column(_STEPS, field, 1, num_rows=self.header.num_steps), f"{_STEPS}/{field}"
        if key not in self._words:
            view = to_numpy(array, spec)
            self._words[key] = view, in_words(view)
        view, words = self._words[key]
        blocks = rows // self.chunk_steps
        if not self._is_checked(key)[blocks].all():
            for block in np.unique(blocks).tolist():
                self._check(key, array, block, first=0)
        return logical(gathered(words, rows, like=view), np.dtype(spec.dtype))

    def close(self) -> None:
        """Let go of the file; the next read maps it again."""
        self._frame: Frame | None = None
        self._metadata: dict[bytes, Any] = {}
        self._batches: dict[int, pa.RecordBatch] = {}
        self._words: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._checked: dict[str, np.ndarray] = {}

    def _open_frame(self) -> Frame:
        if self._frame is None:
            check_signature(self._path, SIGNATURE, kind="Arrow")
            self._frame = open_frame(self._path)
        return self._frame

    def _parsed_metadata(self, key: bytes) -> Any:
        if key not in self._metadata:
            data = self._open_frame().metadata.get(key, b"")
            self._metadata[key] = parse_json(data, where=f"{self._path}: {key.decode()}")
        return self._metadata[key]

    def _batch_rows(self) -> int:
        return max(1, self.header.num_steps) if self.is_mapped else self.chunk_steps

    def _batch(self, index: int) -> pa.RecordBatch:
        """Return a record batch; of compressed ones the last few are remembered."""
        if index not in self._batches:
            with damage(self._path, f"batch {index}"):
                self._batches[index] = self._open_frame().batch(index)
            if len(self._batches) > MAX_BATCHES:
                self._batches.pop(next(iter(self._batches)))
        return self._batches[index]

    def _column(self, table: str, name: str, batch: int, *, num_rows: int) -> pa.Array:
        """Return a column of a table as one batch has it."""
        batches = self._batch(batch)
        with damage(self._path, f"{table}/{name}"):
            column = batches.column(table).values.field(name)
        if len(column) != num_rows:
            raise DamagedData(
                f"{self._path}: {table}/{name} has {len(column)} rows, expected {num_rows}. Run hist verify."
            )
        return column

    def _read_rows(
        self, column: pa.Array, table: str, field: Field, start: int, stop: int, *, first: int
    ) -> np.ndarray:
        """Return rows of a column whose first row is row `first` of its table, once their checksums fit."""
        key, rows = f"{table}/{field.name}", self.chunk_steps
        for block in range((first + start) // rows, -(-(first + stop) // rows)):
            self._check(key, column, block, first=first)
        with damage(self._path, key):
            if field.is_packed:
                bounds, data = packed_parts(column)
                ends = bounds[start : stop + 1]
                return parted(ends[1:] - ends[0], data[ends[0] : ends[-1]])
            return logical(to_numpy(column, field)[start:stop], np.dtype(field.dtype))

    def _is_checked(self, key: str) -> np.ndarray:
        """Return which blocks of a column were found whole in this process."""
        if key not in self._checked:
            known = self._parsed_metadata(_CHECKS)
            if key not in known:
                raise DamagedData(f"{self._path}: {key} has no checksums. Run hist verify; restore it from a copy.")
            self._checked[key] = np.zeros(len(known[key]), bool)
        return self._checked[key]

    def _check(self, key: str, array: pa.Array, block: int, *, first: int) -> None:
        """Compare a block's checksum, once."""
        checked, rows = self._is_checked(key), self.chunk_steps
        if not checked[block]:
            start = block * rows - first
            if check_of(array, start, start + rows) != self._parsed_metadata(_CHECKS)[key][block]:
                table, _, name = key.partition("/")
                place = f"{name}, rows {block * rows} to {first + min(start + rows, len(array))}"
                raise DamagedData(
                    f"{self._path}: {place if table == _STEPS else key} cannot be read, its checksum does not fit. "
                    "Run hist verify; restore it from a copy."
                )
            checked[block] = True

    def _read_json(self, name: str) -> bytes:
        if name != _LEARNERS:
            return self._open_frame().metadata.get(_HEADER, b"")
        with damage(self._path, _LEARNERS):
            column = self._batch(0).column(_LEARNERS)
            self._check(_LEARNERS, column, 0, first=0)
            learners: bytes = column[0].as_py()
            return learners

    def _read_column(self, table: str, name: str, field: Field) -> np.ndarray:
        num_rows = self.header.tables[table].num_rows
        column = self._column(table, name, 0, num_rows=num_rows)
        stored = field if field.is_packed else field.model_copy(update={"stored_dtype": _stored_dtype(column, field)})
        return np.array(self._read_rows(column, table, stored, 0, num_rows, first=0))


def _stored_dtype(array: pa.Array, field: Field) -> str:
    """Return what a small table's column lies in: what fits its values, or its own where Arrow has no such number."""
    kind = np.dtype(field.dtype).kind
    if kind not in "iub":
        return field.dtype
    values = array.storage.values if isinstance(array, pa.ExtensionArray) else array
    dtype: str = np.dtype(values.type.to_pandas_dtype()).str
    return dtype


def _narrowed(columns: Mapping[str, np.ndarray]) -> Columns:
    return {name: narrowed_by_values(column) for name, column in columns.items()}


def _rows(columns: Mapping[str, np.ndarray], start: int, stop: int) -> Columns:
    return {name: column[start:stop] for name, column in columns.items()}


def _block_rows(steps: Mapping[str, np.ndarray]) -> int:
    """Return a power of two: BLOCK_ROWS, or fewer where they take more than BLOCK_BYTES."""
    row_bytes = sum(column.nbytes // max(1, len(column)) for column in steps.values())
    most = max(1, min(BLOCK_ROWS, BLOCK_BYTES // max(1, row_bytes)))
    return 1 << (most.bit_length() - 1)


def _batch(tables: Mapping[str, Columns], learners: bytes = b"") -> pa.RecordBatch:
    """Return a record batch of one row: the learners' JSON, and each table as a list of its rows."""
    arrays = {_LEARNERS: pa.array([learners], pa.large_binary())}
    for table, columns in tables.items():
        rows = pa.StructArray.from_arrays([to_arrow(column) for column in columns.values()], names=list(columns))
        arrays[table] = pa.LargeListArray.from_arrays(pa.array([0, len(rows)], pa.int64()), rows)
    return pa.record_batch(arrays)


def _checks(tables: Mapping[str, Columns], learners: bytes, rows: int) -> dict[str, list[int]]:
    """Return the checksums of each column, by table and name."""
    checks = {_LEARNERS: checks_of(pa.array([learners], pa.large_binary()), rows)}
    for table, columns in tables.items():
        for name, column in columns.items():
            checks[f"{table}/{name}"] = checks_of(to_arrow(column), rows) if 0 not in column.shape else []
    return checks
