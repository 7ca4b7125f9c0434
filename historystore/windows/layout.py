"""Where the steps of histories lie in the rows of shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Int64

from historystore.errors import InvalidValue
from historystore.store import Store
from historystore.windows.addresses import AddressBatch, Run
from historystore.windows.histories import offsets

Spans: TypeAlias = tuple[Int64[np.ndarray, " spans"], Int64[np.ndarray, " spans"]]
"""Rows that lie together in one block: the first of each, and how many."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """The rows of all shards of some stores, back to back, each shard beginning at a new block of `block_steps` rows.

    A piece is a stretch of a history that lies in one shard; pieces are sorted by (history, first step).
    """

    block_steps: int
    """A power of two."""
    shard_block: Int64[np.ndarray, " shards_and_end"]
    """The first block of each shard."""
    shard_rows: Int64[np.ndarray, " shards"]
    """Rows of each shard up to the last one that any history shows."""
    history: Int64[np.ndarray, " pieces"]
    shard: Int64[np.ndarray, " pieces"]
    start: Int64[np.ndarray, " pieces"]
    stop: Int64[np.ndarray, " pieces"]
    row: Int64[np.ndarray, " pieces"]
    """The row of each piece's first step."""
    key: Int64[np.ndarray, " pieces"]
    """Grows with (history, start)."""
    span: int
    """More than any history has steps; `key` is `history * span + start`."""

    @classmethod
    def of(cls, stores: Sequence[Store], *, block_steps: int) -> Layout:
        """Lay the shards of some stores out one after the other."""
        parts: list[np.ndarray] = [np.zeros((5, 0), np.int64)]
        num_histories = num_shards = 0
        for store in stores:
            table = store.histories
            history = np.repeat(np.arange(len(table)), np.diff(table.piece_start)) + num_histories
            shard = table.piece_shard + num_shards
            parts.append(np.stack([history, shard, table.piece_offset, table.piece_first_step, table.piece_length]))
            num_histories += len(table)
            num_shards += len(store.shard_names)
        history, shard, offset, start, length = np.concatenate(parts, axis=1)
        shard_rows = np.zeros(num_shards, np.int64)
        np.maximum.at(shard_rows, shard, offset + length)
        shard_block = offsets(-(-shard_rows // block_steps))
        span = int((start + length).max(initial=0)) + 1
        return cls(
            block_steps=block_steps,
            shard_block=shard_block,
            shard_rows=shard_rows,
            history=history,
            shard=shard,
            start=start,
            stop=start + length,
            row=shard_block[shard] * block_steps + offset,
            key=history * span + start,
            span=span,
        )

    @property
    def num_blocks(self) -> int:
        """Blocks in all shards."""
        return int(self.shard_block[-1])

    def rows_of_block(self, block: int) -> tuple[int, int, int]:
        """Return the shard that a block lies in, and the rows of that shard from which and to which it goes."""
        shard = int(np.searchsorted(self.shard_block, block, side="right")) - 1
        start = int(block - self.shard_block[shard]) * self.block_steps
        return shard, start, min(start + self.block_steps, int(self.shard_rows[shard]))

    def shard_of_row(self, row: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
        """Return the shard that each row lies in."""
        shard: np.ndarray = np.searchsorted(self.shard_block, row // self.block_steps, side="right") - 1
        return shard

    def row_of(
        self, history: Int64[np.ndarray, " steps"], step: Int64[np.ndarray, " steps"]
    ) -> Int64[np.ndarray, " steps"]:
        """Return the row of a step that its history has."""
        piece = self._piece_of(history, step)
        row: np.ndarray = self.row[piece] + step - self.start[piece]
        return row

    def spans(self, batch: AddressBatch) -> Spans:
        """Return the rows of all steps of a batch, in its order.

        Raises:
            InvalidValue: a run goes beyond its history.
        """
        first = self._piece_of(batch.history, batch.start)
        last = self._piece_of(batch.history, batch.stop - 1)
        self._check_inside(batch, first, last)
        start, stop, piece = batch.start, batch.stop, first
        if (last > first).any():
            run, piece = _each(first, last)
            start, stop = np.maximum(start[run], self.start[piece]), np.minimum(stop[run], self.stop[piece])
        row = self.row[piece] + start - self.start[piece]
        return self._by_block(row, row + stop - start)

    def _check_inside(
        self, batch: AddressBatch, first: Int64[np.ndarray, " runs"], last: Int64[np.ndarray, " runs"]
    ) -> None:
        is_inside = np.zeros(len(first), dtype=bool)
        if len(self.history):
            is_inside = (self.history[first] == batch.history) & (batch.stop <= self.stop[last])
        for i in np.flatnonzero(~is_inside)[:1]:
            run = Run(int(batch.history[i]), int(batch.start[i]), int(batch.stop[i]))
            raise InvalidValue(f"address: {run} goes beyond its history. Use steps that the history has.")

    def _by_block(self, start: Int64[np.ndarray, " runs"], stop: Int64[np.ndarray, " runs"]) -> Spans:
        """Cut runs of rows where blocks end."""
        first, last = start // self.block_steps, (stop - 1) // self.block_steps
        if (last > first).any():
            run, block = _each(first, last)
            start = np.maximum(start[run], block * self.block_steps)
            stop = np.minimum(stop[run], (block + 1) * self.block_steps)
        return start, stop - start

    def _piece_of(
        self, history: Int64[np.ndarray, " runs"], step: Int64[np.ndarray, " runs"]
    ) -> Int64[np.ndarray, " runs"]:
        """Return the piece in which a step of a history lies, were it inside."""
        piece: np.ndarray = np.maximum(np.searchsorted(self.key, history * self.span + step, side="right") - 1, 0)
        return piece


def _each(
    first: Int64[np.ndarray, " runs"], last: Int64[np.ndarray, " runs"]
) -> tuple[Int64[np.ndarray, " parts"], Int64[np.ndarray, " parts"]]:
    """Return every number from each first to its last, after the position of that pair."""
    counts = last - first + 1
    pair = np.repeat(np.arange(len(first)), counts)
    return pair, first[pair] + np.arange(len(pair)) - offsets(counts)[pair]
