"""What a reader of a shard's file does in every format: documents, small tables and the fields there are."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from historystore.documents import LearnerRow, ShardHeader, TableShape, parse_document, parse_json, validated
from historystore.errors import DamagedData, MissingField, NotAStore, StoreNotFound
from historystore.fields import Field, check_encodings
from historystore.shards.protocol import TABLES, VALUES, Columns, ShardReader, is_shard_name


class FileShard(ShardReader):
    """A reader of one shard's file; a format says how it reads bytes of JSON and columns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header: ShardHeader | None = None
        self._learners: tuple[LearnerRow, ...] | None = None
        self._fields: dict[str, Field] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._path)!r})"

    def __reduce__(self) -> tuple[type[FileShard], tuple[Path]]:
        return type(self), (self._path,)

    @abstractmethod
    def _read_json(self, name: str) -> bytes:
        """Read one of the documents."""

    @abstractmethod
    def _read_column(self, table: str, name: str, field: Field) -> np.ndarray:
        """Read all of a small table's column, which has elements, in the field's dtype."""

    @property
    def path(self) -> Path:
        """The shard's file."""
        return self._path

    @property
    def header(self) -> ShardHeader:
        """What the shard says about itself."""
        if self._header is None:
            data = self._read_json("header")
            header = parse_document(ShardHeader, data, where=f"{self._path}: header")
            check_encodings(header.fields, where=str(self._path))
            self._header = header
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

    def _field(self, name: str) -> Field:
        """Return one of the shard's step fields."""
        if name not in {field.name for field in self.header.fields}:
            known = ", ".join(sorted(self._fields))
            raise MissingField(f"{self._path}: has no field {name!r}, expected one of {known}. Choose one of those.")
        return self._fields[name]

    def _read_table(self, table: str) -> Columns:
        shape = self.header.tables.get(table, TableShape(num_rows=0, columns=()))
        missing = set(TABLES[table]) - set(shape.columns)
        if missing:
            raise DamagedData(f"{self._path}: {table} lacks {', '.join(sorted(missing))}. Run hist verify.")
        columns = {}
        for name in shape.columns:
            field = self._table_field(table, name)
            if field is None:
                continue  # what a later version adds
            is_empty = 0 in (shape.num_rows, *field.shape)
            columns[name] = (
                np.zeros((shape.num_rows, *field.shape), field.dtype)
                if is_empty
                else self._read_column(table, name, field)
            )
        return columns

    def _table_field(self, table: str, name: str) -> Field | None:
        """Return what a small table's column holds: a fixed one, an observation, or a logged value; None if unknown."""
        if name in self._fields:
            return self._fields[name]
        dtype = TABLES[table].get(name, "<f8" if name.startswith(VALUES) else None)
        return None if dtype is None else Field(name=name, dtype=dtype, stored_dtype=dtype, shape=())


def check_signature(path: Path, signature: bytes, *, kind: str) -> None:
    """Refuse what is no file of a format, by its first bytes.

    Raises:
        StoreNotFound: there is no such file, or it cannot be read.
        DamagedData: it is named as a shard is, but does not begin as one does.
        NotAStore: it is something else.
    """
    from historystore.shards.damage import NOT_DAMAGE

    try:
        with path.open("rb") as file:
            found = file.read(len(signature))
    except FileNotFoundError:
        raise StoreNotFound(f"{path}: there is no such shard. Open the store again.") from None
    except OSError as error:
        if error.errno in NOT_DAMAGE:
            raise
        reason = (error.strerror or "").lower()
        raise StoreNotFound(f"{path}: cannot be read, {reason}. Check its permissions.") from None
    if found == signature:
        return
    if is_shard_name(path.name):
        raise DamagedData(f"{path}: does not begin as an {kind} file does. Run hist verify; restore it from a copy.")
    raise NotAStore(f"{path}: is no shard, it does not begin as an {kind} file does. Give a store or a shard.")


def logical(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return stored values in their logical dtype, without a copy where that is possible."""
    if array.dtype == dtype:
        return array
    if dtype.kind == "b" and array.dtype.itemsize == 1:
        return array.view(dtype)
    return array.astype(dtype)
