"""Bringing streams that were read one by one side by side, as a learner lived them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from historystore.exchange.protocol import Block
from historystore.exchange.spans import SPAN_STEPS
from historystore.histories import Columns

FOLLOWING, SEED = "following/", "seed"
"""Names of columns that are no step fields: what a step led to, as ``following/<field>``, and episodes' seeds."""


def iter_blocks(streams: Sequence[Iterator[Columns]]) -> Iterator[Block]:
    """Give the blocks of a learner whose streams are each read in pieces, until the shortest ends."""
    queues = [_Queue(pieces) for pieces in streams]
    length = max(SPAN_STEPS // len(queues), 1)
    while num_steps := min(queue.filled(length) for queue in queues):
        taken = [queue.take(num_steps) for queue in queues]
        columns = {name: np.stack([columns[name] for columns in taken], axis=1) for name in taken[0]}
        seeds = columns.pop(SEED)
        following = {name: columns.pop(name) for name in list(columns) if name.startswith(FOLLOWING)}
        yield Block(
            steps=columns,
            following={name[len(FOLLOWING) :]: column for name, column in following.items()},
            seeds=seeds,
        )


class _Queue:
    """What was read of a stream and not yet taken."""

    def __init__(self, pieces: Iterator[Columns]) -> None:
        self._pieces = pieces
        self._waiting: list[Columns] = []
        self._num_steps = 0

    def filled(self, num_steps: int) -> int:
        """Read on until a number of steps waits or the stream ends; return how many of them wait."""
        while self._num_steps < num_steps and (piece := next(self._pieces, None)) is not None:
            self._waiting.append(piece)
            self._num_steps += len(piece[SEED])
        return min(self._num_steps, num_steps)

    def take(self, num_steps: int) -> Columns:
        """Return the next steps."""
        names = self._waiting[0]
        joined = {name: np.concatenate([piece[name] for piece in self._waiting]) for name in names}
        self._waiting = [{name: column[num_steps:] for name, column in joined.items()}]
        self._num_steps -= num_steps
        return {name: column[:num_steps] for name, column in joined.items()}
