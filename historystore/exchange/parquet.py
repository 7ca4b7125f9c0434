"""Parquet, as pandas, Polars, DuckDB and Hugging Face `datasets` read it: a row a step, in files of bounded size.

``steps-<n>.parquet`` has the learner, stream, step and episode of each row, and a column a step field, called as the
field. ``episodes``, ``learners`` and ``updates`` are the store's tables; an episode also has its final observation.
``README.md`` tells Hugging Face which files are which, so that ``load_dataset(folder, "steps")`` works as well as
``load_dataset("parquet", data_files="folder/steps-*.parquet")``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from historystore.errors import InvalidValue
from historystore.exchange.protocol import Exporter, Moved
from historystore.exchange.spans import SPAN_STEPS, episode_of
from historystore.fields import Field
from historystore.histories import History
from historystore.store import Store

FILE_BYTES = 256 * 1024 * 1024
"""A file is closed once so many bytes of steps, uncompressed, are in it."""
ROW_GROUP_BYTES = 16 * 1024 * 1024
"""A row group is written once so many bytes wait; this bounds the memory that a history of any length takes."""
KEY_BYTES = 96
"""Of each row: its learner's id, stream, step and episode."""
TABLES = ("steps", "episodes", "learners", "updates")


def write_parquet(store: Store, place: Path) -> Iterator[Moved]:
    """Write every visible learner into a folder of Parquet files.

    Raises:
        InvalidValue: a field holds complex numbers, which Parquet has no type for.
    """
    place.mkdir()
    fields = {field.name: field for field in store.fields}
    columns = [pa.field(name, _type(field)) for name, field in fields.items()]
    with _Files(place, "steps", pa.schema([*_KEYS, *columns])) as steps:
        for learner in store.learners:
            for history in learner.histories:
                yield from _iter_history(history, steps)
            yield Moved(num_learners=1)
    _write_episodes(store, place)
    _write_updates(store, place)
    pq.write_table(store.learners_table(), place / "learners.parquet", compression="zstd")
    (place / "README.md").write_text(_card(store))


EXPORTER = Exporter(
    write=write_parquet,
    lost=(
        "spaces and their bounds: the columns keep dtypes and shapes alone; a step field that a learner lacks is null",
        "hidden attempts, checkpoints and what a learner continued from; provenance beyond engine, attempt and times",
        "values of no fixed shape are bytes as the store packs them",
        "there is no way back: Parquet is for reading elsewhere, export to minari to come back whole",
    ),
)
_KEYS = (
    pa.field("learner", pa.string()),
    pa.field("stream", pa.int32()),
    pa.field("step", pa.int64()),
    pa.field("episode", pa.int64()),
)


class _Files:
    """Parquet files of one schema, written a row group at a time."""

    def __init__(self, folder: Path, name: str, schema: pa.Schema) -> None:
        self.schema = schema
        self._folder, self._name = folder, name
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._num_waiting, self._num_written, self._num_files = 0, 0, 0

    def __enter__(self) -> _Files:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def add(self, table: pa.Table) -> None:
        """Add rows, whose columns are among the schema's."""
        arrays = [
            table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type)
            for field in self.schema
        ]
        self._waiting.append(pa.table(arrays, schema=self.schema))
        self._num_waiting += self._waiting[-1].nbytes
        if self._num_waiting >= ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._writer is None:
            path = self._folder / f"{self._name}-{self._num_files:05d}.parquet"
            self._writer = pq.ParquetWriter(path, self.schema, compression="zstd")
            self._num_files += 1
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
        self._num_written += self._num_waiting
        self._waiting, self._num_waiting = [], 0
        if self._num_written >= FILE_BYTES:
            self._writer.close()
            self._writer, self._num_written = None, 0


def _iter_history(history: History, steps: _Files) -> Iterator[Moved]:
    """Write a history's steps, a span at a time."""
    num_bytes = KEY_BYTES + sum(history.field(name).num_bytes for name in history.fields)
    length = max(min(ROW_GROUP_BYTES // num_bytes, SPAN_STEPS), 1)
    for start in range(0, history.num_steps, length):
        stop = min(start + length, history.num_steps)
        keys = {
            "learner": pa.array([history.learner.id] * (stop - start), pa.string()),
            "stream": pa.array(np.full(stop - start, history.stream), pa.int32()),
            "step": pa.array(np.arange(start, stop)),
            "episode": pa.array(episode_of(history, start, stop)),
        }
        columns = {
            name: _array(column, steps.schema.field(name).type) for name, column in history.read(start, stop).items()
        }
        steps.add(pa.table({**keys, **columns}))
        yield Moved(num_steps=stop - start)


def _type(field: Field) -> pa.DataType:
    """Return the Arrow type of a field's values: fixed-size lists for shapes, bytes for packed values."""
    dtype = np.dtype(field.dtype)
    if dtype.kind == "c":
        raise InvalidValue(f"{field.name}: Parquet has no complex numbers. Export to minari.")
    type_ = pa.binary() if dtype.kind == "O" else pa.from_numpy_dtype(dtype)
    for size in reversed(field.shape):
        type_ = pa.list_(type_, size)
    return type_


def _array(column: np.ndarray, type_: pa.DataType) -> pa.Array:
    """Return values as an Arrow array of a type that `_type` gave, without a Python object a value."""
    inner = type_
    while pa.types.is_fixed_size_list(inner):
        inner = inner.value_type
    array = pa.array(column.reshape(-1), inner)  # (steps, *shape) -> (steps * values,)
    for size in reversed(column.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def _write_episodes(store: Store, place: Path) -> None:
    """Write the episodes, each with what its last step led to; that is null where it is lost."""
    fields = [field for field in store.fields if field.name.partition("/")[0] == "observation"]
    table = store.episodes_table()
    position = table.schema.get_field_index("learner")
    table = table.set_column(position, "learner", table["learner"].cast(pa.string()))
    schema = pa.schema([*table.schema, *(pa.field(f"final_{field.name}", _type(field)) for field in fields)])
    with _Files(place, "episodes", schema) as files:
        for learner in store.learners:
            for history in learner.histories:
                first, last = store.episode_start[[history.index, history.index + 1]].tolist()
                files.add(_with_ends(history, table.slice(first, last - first), schema))


def _with_ends(history: History, episodes: pa.Table, schema: pa.Schema) -> pa.Table:
    """Add what the last steps of a history's episodes led to."""
    steps, ends = history.ends()
    last = history.episodes.first_step + history.episodes.length - 1
    at = np.minimum(np.searchsorted(steps, last), max(len(steps) - 1, 0))
    rows = pa.array(at, mask=steps[at] != last) if len(steps) else pa.nulls(len(last), pa.int64())
    for name, column in ends.items():
        target = schema.field(f"final_{name}")
        episodes = episodes.append_column(target, _array(column, target.type).take(rows))
    return episodes


def _write_updates(store: Store, place: Path) -> None:
    """Write the updates, a learner at a time; their columns are the union of all learners'."""
    schemas = [store.updates_table(learner=learner.id).schema for learner in store.learners]
    if not schemas:
        return
    with _Files(place, "updates", pa.unify_schemas(schemas)) as files:
        for learner in store.learners:
            files.add(store.updates_table(learner=learner.id))


def _card(store: Store) -> str:
    """Return the dataset card: which files make which table."""
    names = [name for name in TABLES if name != "updates" or store.learners]
    configs = [f'  - config_name: {name}\n    data_files: "{name}*.parquet"' for name in names]
    return (
        "---\nconfigs:\n"
        + "\n".join(configs)
        + f"\n---\n# {store.document.family}\n\nTraining histories of {len(store.learners)} learners, "
        f"{store.num_steps} steps. Exported by historystore from a store with the digest `{store.digest}`.\n"
    )
