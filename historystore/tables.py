"""The histories and episodes of a store as NumPy columns, decoded when they are first asked for."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int64

from historystore.index import Index


class HistoryTable:
    """All visible histories, by learner and stream; and where their steps lie.

    History ``h`` is made of the pieces ``piece_start[h]`` to ``piece_start[h + 1]``, in order of its steps: piece ``p``
    is the rows ``piece_offset[p]`` to ``piece_offset[p] + piece_length[p]`` of shard ``piece_shard[p]``, which are the
    history's steps from ``piece_first_step[p]`` on.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    def __len__(self) -> int:
        return len(self.num_steps)

    @property
    def learner(self) -> Int64[np.ndarray, " histories"]:
        """Position among the store's learners."""
        return self._index.array("history_learner")

    @property
    def stream(self) -> Int64[np.ndarray, " histories"]:
        """Which of its learner's parallel environments."""
        return self._index.array("history_stream")

    @property
    def num_steps(self) -> Int64[np.ndarray, " histories"]:
        """Visible steps."""
        return self._index.array("history_num_steps")

    @property
    def piece_start(self) -> Int64[np.ndarray, " histories_and_1"]:
        """First piece of each history, and the number of pieces."""
        return self._index.array("piece_start")

    @property
    def piece_shard(self) -> Int64[np.ndarray, " pieces"]:
        """Position among the store's shard names."""
        return self._index.array("piece_shard")

    @property
    def piece_learner(self) -> Int64[np.ndarray, " pieces"]:
        """Row among the shard's learners."""
        return self._index.array("piece_learner")

    @property
    def piece_offset(self) -> Int64[np.ndarray, " pieces"]:
        """First row in the shard."""
        return self._index.array("piece_offset")

    @property
    def piece_first_step(self) -> Int64[np.ndarray, " pieces"]:
        """First step in the history."""
        return self._index.array("piece_first_step")

    @property
    def piece_length(self) -> Int64[np.ndarray, " pieces"]:
        """Number of steps."""
        return self._index.array("piece_length")


class EpisodeTable:
    """Visible episodes, by history and first step; a slice of it shares its columns.

    An episode that is neither terminated nor truncated was cut: it is the last of its history.
    """

    def __init__(self, index: Index, rows: slice = slice(None)) -> None:
        self._index, self._rows = index, rows

    def __len__(self) -> int:
        return len(self.first_step)

    def rows(self, start: int, stop: int) -> EpisodeTable:
        """Return the episodes from `start` to `stop` of the whole table."""
        return EpisodeTable(self._index, slice(start, stop))

    @property
    def history(self) -> Int64[np.ndarray, " episodes"]:
        """Position among the store's histories."""
        return self._index.array("episode_history")[self._rows]

    @property
    def first_step(self) -> Int64[np.ndarray, " episodes"]:
        """First step in the history."""
        return self._index.array("episode_first_step")[self._rows]

    @property
    def length(self) -> Int64[np.ndarray, " episodes"]:
        """Number of steps."""
        return self._index.array("episode_length")[self._rows]

    @property
    def return_(self) -> Float64[np.ndarray, " episodes"]:
        """Sum of rewards."""
        return self._index.array("episode_return")[self._rows]

    @property
    def terminated(self) -> Bool[np.ndarray, " episodes"]:
        """Whether the task ended it."""
        return self._index.array("episode_terminated")[self._rows]

    @property
    def truncated(self) -> Bool[np.ndarray, " episodes"]:
        """Whether something outside the task ended it."""
        return self._index.array("episode_truncated")[self._rows]

    @property
    def seed(self) -> Int64[np.ndarray, " episodes"]:
        """What its environment was reset with, -1 where that is unknown."""
        return self._index.array("episode_seed")[self._rows]

    @property
    def is_cut(self) -> Bool[np.ndarray, " episodes"]:
        """Whether nothing ended it but the end of the recording."""
        is_cut: np.ndarray = ~(self.terminated | self.truncated)
        return is_cut
