"""Where a window's steps lie: an address is not data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int64

from historystore.errors import InvalidValue


class Run(NamedTuple):
    """Consecutive steps of one history: `start` to `stop`, half-open.

    `history` counts the histories of all the stores that are read together, in the order of the stores.
    """

    history: int
    start: int
    stop: int


Address: TypeAlias = tuple[Run, ...]
"""A window: one run, or several where episodes are left out or streams are spliced."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AddressBatch:
    """Many addresses as flat arrays: the runs of window `i` are `first_run[i]` to `first_run[i + 1]`.

    It can be indexed and iterated like a list of addresses; samplers and readers use the arrays, without an object for
    each window.
    """

    history: Int64[np.ndarray, " runs"]
    start: Int64[np.ndarray, " runs"]
    stop: Int64[np.ndarray, " runs"]
    first_run: Int64[np.ndarray, " windows_and_end"]

    @classmethod
    def of(cls, addresses: AddressBatch | Iterable[Address]) -> AddressBatch:
        """Return addresses as arrays; an AddressBatch is returned as it is."""
        if isinstance(addresses, AddressBatch):
            return addresses
        windows = [tuple(address) for address in addresses]
        runs = np.array([run for address in windows for run in address], dtype=np.int64).reshape(-1, 3)
        if (runs[:, 0] < 0).any() or (runs[:, 1] < 0).any() or (runs[:, 2] <= runs[:, 1]).any():
            raise InvalidValue("address: a run is not (history, start, stop) with 0 <= start < stop. Correct the run.")
        counts = np.array([len(address) for address in windows], dtype=np.int64)
        first_run = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        history, start, stop = (np.ascontiguousarray(column) for column in runs.T)
        return cls(history=history, start=start, stop=stop, first_run=first_run)

    @classmethod
    def joined(cls, batches: Sequence[AddressBatch]) -> AddressBatch:
        """Return the windows of some batches as one batch, one behind the other."""
        num_runs = np.cumsum([0, *(len(batch.history) for batch in batches)])
        firsts = [batch.first_run[:-1] + before for batch, before in zip(batches, num_runs, strict=False)]
        return cls(
            history=np.concatenate([batch.history for batch in batches]),
            start=np.concatenate([batch.start for batch in batches]),
            stop=np.concatenate([batch.stop for batch in batches]),
            first_run=np.concatenate([*firsts, num_runs[-1:]]),
        )

    def __len__(self) -> int:
        return len(self.first_run) - 1

    def __getitem__(self, index: int) -> Address:
        position = range(len(self))[index]
        runs = slice(self.first_run[position], self.first_run[position + 1])
        return tuple(map(Run, self.history[runs].tolist(), self.start[runs].tolist(), self.stop[runs].tolist()))

    def __iter__(self) -> Iterator[Address]:
        return map(self.__getitem__, range(len(self)))

    @property
    def num_steps(self) -> Int64[np.ndarray, " windows"]:
        """Steps that each window holds, padding not counted."""
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.stop - self.start)])
        return np.diff(ends[self.first_run])


def merge_runs(batch: AddressBatch) -> AddressBatch:
    """Return the same windows with neighbouring runs of one history that touch made one."""
    is_head = np.ones(len(batch.history), dtype=bool)
    is_head[1:] = (batch.history[1:] != batch.history[:-1]) | (batch.start[1:] != batch.stop[:-1])
    is_head[batch.first_run[:-1][np.diff(batch.first_run) > 0]] = True
    heads = np.flatnonzero(is_head)
    tails = np.append(heads[1:], len(is_head)) - 1
    run_of = np.concatenate([np.zeros(1, np.int64), np.cumsum(is_head)])
    return AddressBatch(
        history=batch.history[heads],
        start=batch.start[heads],
        stop=batch.stop[tails if len(heads) else heads],
        first_run=run_of[batch.first_run],
    )
