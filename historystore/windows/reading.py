"""Windows as arrays: many at once, from any number of stores."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from historystore.errors import InvalidValue, MissingField, SpaceMismatch
from historystore.fields import Field
from historystore.shards import ShardReader
from historystore.store import Store
from historystore.windows.addresses import Address, AddressBatch
from historystore.windows.cache import BlockCache, Rows
from historystore.windows.histories import Histories, offsets
from historystore.windows.layout import Layout
from historystore.windows.mapped import each_row, gathered_from_maps

DEFAULT_FIELDS = ("observation", "action", "reward")
DEFAULT_CACHE_BYTES = 1 << 30
BLOCK_STEPS = 8192
BLOCK_BYTES = 1 << 20
OPEN_SHARD_BYTES = 1 << 20
"""About what an open file takes for itself; a quarter of the cache's budget is added for open files."""
MIN_OPEN_SHARDS = 8
POSITIONS = ("history", "step", "learner")
"""Where each position of a window comes from; may be asked for like fields. They are -1 in padding."""
_EPISODE_START = "episode_start"


class WindowReader:
    """Turns addresses into arrays, from any number of stores with the same spaces.

    Steps are read in blocks and kept, decompressed, in `cache_bytes` of memory in each process; blocks used least
    recently make room. From Arrow shards that are not compressed, windows are gathered by memory map instead. Files are
    opened on first use, in each process anew: a reader can be forked and pickled.

    A name in `fields` stands for itself or, where it ends before a `/`, for all its entries: `observation` for
    `observation/image` and `observation/goal`.

    Raises:
        SpaceMismatch: the stores differ in their spaces, or in the dtype or shape of a field.
        MissingField: no history has such a field.
    """

    def __init__(
        self,
        stores: Sequence[Store],
        *,
        fields: Sequence[str] = DEFAULT_FIELDS,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        check_spaces(stores)
        self.positions = tuple(name for name in fields if name in POSITIONS)
        self.fields = _chosen_fields(stores, [name for name in fields if name not in POSITIONS])
        self._stores = [copy.copy(store) for store in stores]  # ours are never refreshed: positions in them hold
        self._columns = (*self.fields, _flag(_EPISODE_START))
        self._cache_bytes = cache_bytes
        self._layout = Layout.of(stores, block_steps=_block_steps(self._columns))
        self._shards = [(store, i) for store in self._stores for i in range(len(store.shard_names))]
        self._learner_ids = [learner.id for store in stores for learner in store.learners]
        histories = Histories.of(stores)
        self._learner_of = histories.learner
        self._episode_rows = np.sort(self._layout.row_of(histories.episode_history, histories.episode_start))
        self._cache: BlockCache | None = None
        self._open: OrderedDict[int, ShardReader] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None, "_open": OrderedDict()}

    @property
    def stores(self) -> Sequence[Store]:
        """The stores it reads."""
        return tuple(self._stores)

    @property
    def layout(self) -> Layout:
        """Where the steps of the stores lie."""
        return self._layout

    @property
    def num_slots(self) -> int:
        """How many blocks the memory holds whatever their values; it may hold more, for integers are held narrow."""
        row_bytes = sum(field.num_bytes for field in self._columns)
        return max(1, self._cache_bytes // (row_bytes * self._layout.block_steps))

    def read(self, addresses: AddressBatch | Iterable[Address], length: int) -> dict[str, np.ndarray]:
        """Return the windows as arrays of (windows, length, *shape), each field in its logical dtype.

        Besides the fields: `mask`, False where a window is shorter than `length` and padded at its end with zeros;
        and `episode_start`, True at the first step of an episode. What came before a window's first step is not in the
        window; what came before any other position in it is the position before, also where episodes were left out or
        streams spliced: the previous action and reward are always those of the position before.

        Raises:
            InvalidValue: a window is longer than `length`, or goes beyond its history.
            DamagedData: a shard does not hold what was written to it.
        """
        batch = AddressBatch.of(addresses)
        num_steps = batch.num_steps
        if (num_steps > length).any():
            raise InvalidValue(
                f"windows: a window has {num_steps.max()} steps, expected at most {length}. Ask for more."
            )
        mask = np.arange(length) < num_steps[:, None]  # (windows, length)
        place = None if mask.all() else np.flatnonzero(mask)
        columns = self._gather(batch)
        columns.update(self._positions(batch))
        columns[_EPISODE_START] = columns[_EPISODE_START].view(np.bool_)
        windows = {
            name: _in_windows(column, place, mask.shape, -1 if name in POSITIONS else 0)
            for name, column in columns.items()
        }
        return {**windows, "mask": mask}

    def _gather(self, batch: AddressBatch) -> dict[str, np.ndarray]:
        """Return all columns at all steps of a batch, back to back."""
        row, count = self._layout.spans(batch)
        shard = self._layout.shard_of_row(row)
        if all(self._shard(index).is_mapped for index in np.unique(shard).tolist()):
            return self._gather_mapped(shard, row, count)
        return self._gather_cached(row, count)

    def _gather_mapped(
        self, shard: Int64[np.ndarray, " spans"], row: Int64[np.ndarray, " spans"], count: Int64[np.ndarray, " spans"]
    ) -> dict[str, np.ndarray]:
        self._check_shards(np.unique(shard).tolist())
        local = row - self._layout.shard_block[shard] * self._layout.block_steps
        columns = gathered_from_maps(self.fields, shard=shard, row=local, count=count, reader_of=self._shard)
        rows = each_row(row, count)
        following = np.searchsorted(self._episode_rows, rows)
        padded = np.append(self._episode_rows, -1)
        columns[_EPISODE_START] = (padded[following] == rows).view(np.uint8)
        return columns

    def _gather_cached(
        self, row: Int64[np.ndarray, " spans"], count: Int64[np.ndarray, " spans"]
    ) -> dict[str, np.ndarray]:
        if self._cache is None:
            self._cache = BlockCache(
                self._columns,
                block_steps=self._layout.block_steps,
                num_blocks=self._layout.num_blocks,
                num_bytes=self._cache_bytes,
            )
        cache, block_steps = self._cache, self._layout.block_steps
        block = row // block_steps
        if len(block) <= cache.num_slots or len(np.unique(block)) <= cache.num_slots:
            rows = each_row(cache.rows_of(block, self._read_block) + row % block_steps, count)
            return {field.name: cache.take(field.name, rows) for field in self._columns}
        return self._gather_in_turns(cache, row, count)

    def _gather_in_turns(
        self, cache: BlockCache, row: Int64[np.ndarray, " spans"], count: Int64[np.ndarray, " spans"]
    ) -> dict[str, np.ndarray]:
        """Gather from more blocks than the cache holds, some blocks at a time."""
        block, total = row // self._layout.block_steps, int(count.sum())
        columns = {field.name: np.empty((total, *field.shape), field.dtype) for field in self._columns}
        turn = np.unique(block, return_inverse=True)[1] // cache.num_slots
        place = offsets(count)[:-1]
        for each in range(int(turn.max()) + 1):
            now = turn == each
            rows = each_row(
                cache.rows_of(block[now], self._read_block) + row[now] % self._layout.block_steps, count[now]
            )
            places = each_row(place[now], count[now])
            for name, column in columns.items():
                column[places] = cache.take(name, rows)
        return columns

    def _positions(self, batch: AddressBatch) -> dict[str, np.ndarray]:
        """Return the positions asked for at all steps of a batch, back to back."""
        if not self.positions:
            return {}
        count = batch.stop - batch.start
        history = np.repeat(batch.history, count)
        step = each_row(batch.start, count)
        columns = {"history": history, "step": step, "learner": self._learner_of[history]}
        return {name: columns[name] for name in self.positions}

    def _shard(self, index: int) -> ShardReader:
        store, position = self._shards[index]
        return store.shard(position)

    def _read_block(self, block: int) -> Rows:
        """Read one block of all fields from its shard."""
        shard, start, stop = self._layout.rows_of_block(block)
        self._check_shards([shard])
        reader = self._opened(shard)
        rows = {field.name: reader.read(field.name, start, stop) for field in self.fields}
        first = self._layout.shard_block[shard] * self._layout.block_steps + start
        low, high = np.searchsorted(self._episode_rows, (first, first + stop - start))
        rows[_EPISODE_START] = np.zeros(stop - start, dtype=np.uint8)
        rows[_EPISODE_START][self._episode_rows[low:high] - first] = 1
        return rows

    def _opened(self, shard: int) -> ShardReader:
        """Return a shard to read blocks of; beyond a number of open files, the one least recently used is closed."""
        self._open[shard] = reader = self._shard(shard)
        self._open.move_to_end(shard)
        if len(self._open) > max(MIN_OPEN_SHARDS, self._cache_bytes // 4 // OPEN_SHARD_BYTES):
            self._open.popitem(last=False)[1].close()
        return reader

    def check_fields(self, histories: Int64[np.ndarray, " histories"]) -> None:
        """Check that some histories have all fields at all their steps; nothing is read.

        Raises:
            MissingField: some lack a field; names their learners.
        """
        is_asked = np.isin(self._layout.history, histories)
        self._check_shards(np.unique(self._layout.shard[is_asked]).tolist())

    def _check_shards(self, shards: Iterable[int]) -> None:
        for name, shape in ((field.name, field.shape) for field in self.fields):
            lacking = [shard for shard in shards if not self._has(shard, name, shape)]
            if lacking:
                learners = np.unique(self._learner_of[self._layout.history[np.isin(self._layout.shard, lacking)]])
                ids = [self._learner_ids[i][:12] for i in learners]
                place = self._shards[lacking[0]][0].place
                raise MissingField(
                    f"{place}: {len(ids)} learners have no field {name!r} of shape {shape}: "
                    f"{', '.join(ids[:3])}{', ...' * (len(ids) > 3)}. Leave the field out, or those learners."
                )

    def _has(self, shard: int, name: str, shape: tuple[int, ...]) -> bool:
        store, index = self._shards[shard]
        return any((field.name, field.shape) == (name, shape) for field in store.shard_fields(index))


def check_spaces(stores: Sequence[Store]) -> None:
    """Refuse to read together what one model could not take in.

    Raises:
        InvalidValue: there is no store.
        SpaceMismatch: two stores differ in their spaces.
    """
    if not stores:
        raise InvalidValue("windows: there is no store to read. Give one at least.")
    first = stores[0]
    for store in stores[1:]:
        for kind in ("observation_space", "action_space"):
            expected, got = getattr(first.document, kind), getattr(store.document, kind)
            if expected != got:
                raise SpaceMismatch(
                    f"{store.place}: another {kind} than {first.place}, expected {expected}, got {got}. "
                    "Read stores of the same spaces together."
                )


def _chosen_fields(stores: Sequence[Store], names: Sequence[str]) -> tuple[Field, ...]:
    """Return the fields that some names stand for, each once; the stores must agree on them."""
    chosen: dict[str, Field] = {}
    for store in stores:
        known = {field.name: field for field in store.fields}
        for name in names:
            found = [field for key, field in known.items() if key == name or key.startswith(f"{name}/")]
            if not found:
                expected = ", ".join((*known, *POSITIONS))
                raise MissingField(
                    f"{store.place}: no history has a field {name!r}, expected among {expected}. Choose among those."
                )
            for field in found:
                _check_fixed(field, store)
                _check_same(chosen.setdefault(field.name, field), field, store)
    return tuple(chosen.values())


def _check_fixed(field: Field, store: Store) -> None:
    if field.is_packed:
        raise InvalidValue(
            f"{store.path}: field {field.name!r} has values of no fixed shape, expected arrays. "
            "Choose other fields, or read histories one by one with history.read."
        )


def _check_same(expected: Field, got: Field, store: Store) -> None:
    if (expected.dtype, expected.shape) != (got.dtype, got.shape):
        raise SpaceMismatch(
            f"{store.place}: field {got.name!r} differs from the other stores', expected {expected.dtype} of shape "
            f"{expected.shape}, got {got.dtype} of {got.shape}. Read other fields, or fewer stores together."
        )


def _flag(name: str) -> Field:
    return Field(name=name, dtype="|u1", stored_dtype="|u1", shape=())


def _block_steps(fields: Sequence[Field]) -> int:
    """Return a power of two: BLOCK_STEPS, or fewer where they take more than BLOCK_BYTES."""
    most = max(1, min(BLOCK_STEPS, BLOCK_BYTES // sum(field.num_bytes for field in fields)))
    return 1 << (most.bit_length() - 1)


def _in_windows(
    column: Shaped[np.ndarray, "rows ..."],
    place: Int64[np.ndarray, " rows"] | None,
    shape: tuple[int, ...],
    padding: int,
) -> Shaped[np.ndarray, "windows length ..."]:
    """Lay a column out in windows; `place` is where its rows go if they do not fill them."""
    if place is None:
        return column.reshape(*shape, *column.shape[1:])
    padded = np.full((shape[0] * shape[1], *column.shape[1:]), padding, dtype=column.dtype)
    padded[place] = column
    return padded.reshape(*shape, *column.shape[1:])
