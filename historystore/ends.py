"""The observations that follow the last steps of episodes, of one shard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from historystore.shards.protocol import Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class EndTable:
    """A shard's final observations by learner row, stream and step."""

    columns: Columns
    history: np.ndarray
    """Of each row, in order: learner row times `num_streams` plus stream."""
    num_streams: int

    @classmethod
    def of(cls, table: Columns) -> EndTable:
        """Sort a shard's table."""
        learner, stream, step = (table[name].astype(np.int64) for name in ("learner", "stream", "step"))
        order = np.lexsort((step, stream, learner))
        num_streams = int(stream.max(initial=0)) + 1
        history = (learner * num_streams + stream)[order]
        columns = {name: column[order] for name, column in table.items()}
        return cls(columns=columns, history=history, num_streams=num_streams)

    def find(self, learner: int, stream: int, start: int, stop: int) -> slice:
        """Return the rows of one history whose steps lie in a span."""
        if stream >= self.num_streams:
            return slice(0, 0)
        first, last = np.searchsorted(self.history, [key := learner * self.num_streams + stream, key + 1])
        low, high = first + np.searchsorted(self.columns["step"][first:last], [start, stop])
        return slice(int(low), int(high))
