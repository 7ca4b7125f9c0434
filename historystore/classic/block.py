"""Consecutive steps of a group of learners, waiting to be handed to their writers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int64, Shaped

_MOST_BYTES = 32 * 2**20
_MOST_ROWS = 2048

Columns = dict[str, np.ndarray]


class Block:
    """Rows of steps, one array (rows, learners, ...) a field, made when the first row comes."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._arrays: Columns = {}
        self._ended: list[Int64[np.ndarray, " ends"]] = []
        self._finals: list[Columns] = []

    @property
    def is_full(self) -> bool:
        """Whether no row has room."""
        return bool(self._arrays) and self.num_rows == len(next(iter(self._arrays.values())))

    def add(self, row: Mapping[str, Shaped[np.ndarray, "learners ..."]]) -> None:
        """Copy a step of every learner."""
        if not self._arrays:
            num_bytes = sum(values.nbytes for values in row.values())
            most_rows = min(max(_MOST_BYTES // num_bytes, 1), _MOST_ROWS)
            self._arrays = {name: np.empty((most_rows, *value.shape), value.dtype) for name, value in row.items()}
        for name, values in row.items():
            self._arrays[name][self.num_rows] = values
        self.num_rows += 1

    def add_ends(
        self, is_end: Bool[np.ndarray, " learners"], following: Mapping[str, Shaped[np.ndarray, "learners ..."]]
    ) -> None:
        """Keep what followed the last step of the learners whose episode has ended with it."""
        self._ended.append(np.flatnonzero(is_end))
        self._finals.append({name: values[is_end] for name, values in following.items()})

    def steps(self, learner: int) -> Columns:
        """Return the steps of one learner, (rows, 1, ...)."""
        return {name: array[: self.num_rows, learner : learner + 1] for name, array in self._arrays.items()}

    def finals(self, num_learners: int, following: Mapping[str, Shaped[np.ndarray, "learners ..."]]) -> list[Columns]:
        """Return what followed the ends of each learner's episodes; `following` gives shapes where nothing ended."""
        ended = np.concatenate([np.zeros(0, np.int64), *self._ended])
        order = np.argsort(ended, kind="stable")
        bounds = np.searchsorted(ended[order], np.arange(num_learners + 1)).tolist()
        joined = {
            name: np.concatenate([values[:0], *(finals[name] for finals in self._finals)])[order]
            for name, values in following.items()
        }
        spans = [slice(*bounds[learner : learner + 2]) for learner in range(num_learners)]
        return [{name: values[span] for name, values in joined.items()} for span in spans]

    def clear(self) -> None:
        """Begin anew; the writers have copies."""
        self.num_rows, self._ended, self._finals = 0, [], []
