"""Decompressed blocks of steps, kept in memory up to a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from historystore.fields import Field
from historystore.words import gathered, in_words

Rows = Mapping[str, np.ndarray]
"""Rows of some fields, in their logical dtypes."""


class _TooWide(Exception):  # noqa: N818  # an answer, not an error
    """A field has a value that its held dtype cannot hold."""


class BlockCache:
    """The blocks used last, in one long array a field.

    A block has the same place in every array, so that one array of rows gathers from all of them, however many blocks
    those rows lie in. Integers are held in their stored dtype where the values allow it: that is what fits most.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        *,
        block_steps: int,
        num_blocks: int,
        num_bytes: int,
    ) -> None:
        self._block_steps = block_steps
        self._num_blocks = num_blocks
        self._num_bytes = num_bytes
        self._fields = {field.name: field for field in fields}
        self._dtypes = {field.name: _held_dtype(field) for field in fields}
        self._clear()

    @property
    def num_slots(self) -> int:
        """How many blocks have a place at once: what the budget allows, at least one."""
        return len(self._block_in)

    def rows_of(
        self, blocks: Int64[np.ndarray, " blocks"], read_block: Callable[[int], Rows]
    ) -> Int64[np.ndarray, " blocks"]:
        """Return the row in the arrays at which each block begins; reads those that are not held.

        The rows hold until the next call. There may be no more different blocks than slots.
        """
        try:
            return self._slots_of(blocks, read_block) * self._block_steps
        except _TooWide as wide:
            name = str(wide)
            self._dtypes[name] = np.dtype(self._fields[name].dtype)
            self._clear()
        return self.rows_of(blocks, read_block)

    def take(self, name: str, rows: Int64[np.ndarray, " rows"]) -> Shaped[np.ndarray, "rows ..."]:
        """Gather rows of one field, in its logical dtype."""
        field = self._fields[name]
        taken = gathered(self._words[name], rows, like=self._arrays[name])
        return taken.astype(field.dtype, copy=False)

    def _slots_of(
        self, blocks: Int64[np.ndarray, " blocks"], read_block: Callable[[int], Rows]
    ) -> Int64[np.ndarray, " blocks"]:
        self._tick += 1
        slots: np.ndarray = self._slot_of[blocks]
        if (slots < 0).any():
            self._last_use[slots[slots >= 0]] = self._tick
            self._fetch(np.unique(blocks[slots < 0]), read_block)
            slots = self._slot_of[blocks]
        self._last_use[slots] = self._tick
        return slots

    def _clear(self) -> None:
        """Forget everything held, and lay the arrays out for the present dtypes; memory is taken as it is filled."""
        shapes = {name: field.shape for name, field in self._fields.items()}
        row_bytes = sum(
            dtype.itemsize * int(np.prod(shapes[name], dtype=np.int64)) for name, dtype in self._dtypes.items()
        )
        num_slots = max(1, min(self._num_blocks, self._num_bytes // max(1, row_bytes * self._block_steps)))
        num_rows = num_slots * self._block_steps
        self._arrays = {name: np.empty((num_rows, *shapes[name]), dtype) for name, dtype in self._dtypes.items()}
        self._words = {name: in_words(array) for name, array in self._arrays.items()}
        self._slot_of = np.full(self._num_blocks, -1, dtype=np.int64)
        self._block_in = np.full(num_slots, -1, dtype=np.int64)
        self._last_use = np.full(num_slots, -1, dtype=np.int64)
        self._tick = 0

    def _fetch(self, blocks: Int64[np.ndarray, " blocks"], read_block: Callable[[int], Rows]) -> None:
        """Read blocks into the slots used least recently."""
        slots = np.argpartition(self._last_use, len(blocks) - 1)[: len(blocks)]
        held = self._block_in[slots]
        self._slot_of[held[held >= 0]] = -1
        self._block_in[slots] = self._last_use[slots] = -1
        for block, slot in zip(blocks.tolist(), slots.tolist(), strict=True):
            self._fill(slot, read_block(block))
            self._slot_of[block], self._block_in[slot] = slot, block

    def _fill(self, slot: int, rows: Rows) -> None:
        start = slot * self._block_steps
        for name, array in self._arrays.items():
            part = array[start : start + len(rows[name])]
            part[...] = rows[name]
            if array.dtype != self._fields[name].dtype and not np.array_equal(part, rows[name]):
                raise _TooWide(name)


def _held_dtype(field: Field) -> np.dtype[Any]:
    """Return the stored dtype of integers; what else there is lies in the store as it is read."""
    return np.dtype(field.stored_dtype if np.dtype(field.dtype).kind in "iu" else field.dtype)
