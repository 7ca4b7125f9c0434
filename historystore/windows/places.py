"""Where on the disk the windows of an epoch lie, before any of them is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from historystore.windows.histories import Histories, offsets
from historystore.windows.layout import Layout
from historystore.windows.samplers import WindowSampler


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Places:
    """The windows of `WindowSampler.even_windows` in the order in which they lie in shards: place 0, 1, 2, ...

    Those windows are numbered along histories. Long histories that were recorded side by side lie in pieces, one in
    each shard, so the numbers fall into stretches, one a piece, and the stretches are sorted by their rows. Each number
    has exactly one place; that neighbours in place are neighbours on the disk is nearly true, which is enough: where a
    window goes on beyond its piece, or its stride is not the smallest, it lies a little elsewhere.

    Costs 16 bytes a piece.
    """

    first_number: Int64[np.ndarray, " stretches"]
    first_place: Int64[np.ndarray, " stretches_and_end"]
    num_blocks: int
    """Blocks in which there is anything to read."""

    @classmethod
    def of(cls, sampler: WindowSampler, layout: Layout, *, num_windows: int) -> Places:
        """Sort the numbers of `num_windows` windows by where they lie."""
        piece, start, stop, history = _chosen_pieces(sampler.histories, layout)
        row = layout.row[piece] + start - layout.start[piece]
        first_step = _first_steps(sampler.histories)[history]
        part = (start - first_step) / (sampler.histories.stop[history] - first_step)
        shares = sampler.shares_before
        begin = shares[history] + part * (shares[history + 1] - shares[history])
        low = np.maximum.accumulate(np.rint(begin * num_windows).astype(np.int64))
        low[0] = 0
        count = np.diff(low, append=num_windows)
        by_row = np.argsort(row, kind="stable")
        filled = by_row[count[by_row] > 0]
        return cls(
            first_number=low[filled],
            first_place=offsets(count[filled]),
            num_blocks=_num_blocks(row[by_row], (row + stop - start)[by_row], block_steps=layout.block_steps),
        )

    @property
    def num_windows(self) -> int:
        """How many windows there are."""
        return int(self.first_place[-1])

    def numbers(self, places: Int64[np.ndarray, " windows"]) -> Int64[np.ndarray, " windows"]:
        """Return which windows lie in some places."""
        stretch = np.searchsorted(self.first_place, places, side="right") - 1
        numbers: np.ndarray = self.first_number[stretch] + places - self.first_place[stretch]
        return numbers


def _chosen_pieces(histories: Histories, layout: Layout) -> tuple[Int64[np.ndarray, " pieces"], ...]:
    """Return which pieces hold steps of some histories, from and to which step, and of which history, in its order."""
    row_of = np.full(int(max(layout.history.max(initial=0), histories.index.max())) + 1, -1, dtype=np.int64)
    row_of[histories.index] = np.arange(len(histories))
    history = row_of[layout.history]
    start = np.maximum(layout.start, _first_steps(histories)[history])
    stop = np.minimum(layout.stop, histories.stop[history])
    piece = np.flatnonzero((history >= 0) & (start < stop))
    piece = piece[np.lexsort((layout.start[piece], history[piece]))]
    return piece, start[piece], stop[piece], history[piece]


def _first_steps(histories: Histories) -> Int64[np.ndarray, " histories"]:
    """Return the step at which the first episode of each history starts, 0 where there is none."""
    steps: np.ndarray = np.append(histories.episode_start, 0)[histories.first_episode[:-1]]
    return steps


def _num_blocks(start: Int64[np.ndarray, " pieces"], stop: Int64[np.ndarray, " pieces"], *, block_steps: int) -> int:
    """Count the blocks that some rows lie in; the rows are sorted and do not overlap."""
    first, last = start // block_steps, (stop - 1) // block_steps
    return int((last - first + 1).sum() - (first[1:] == last[:-1]).sum())
