"""The steps that wait to be handed to the writer, in arrays made beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Shaped

from historystore.fields import flatten, space_fields

_BLOCK_BYTES = 2**20
_MOST_ROWS = 512
_FEWEST_ROWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Consecutive steps of all streams, as `LearnerWriter.add_steps` takes them."""

    steps: dict[str, Shaped[np.ndarray, "time streams ..."]]
    final_observations: dict[str, Shaped[np.ndarray, "ends ..."]]
    next_observation: dict[str, Shaped[np.ndarray, "streams ..."]]


def _num_rows(row_bytes: int) -> int:
    return min(_MOST_ROWS, max(_FEWEST_ROWS, _BLOCK_BYTES // max(row_bytes, 1)))


class Block:
    """Rows of steps, one array a field, filled from the top.

    Writing one value costs an index assignment; a field's array is made when its first value comes, unless `make` was
    called. Observations have one row more than the other fields: row `t + 1` is what the streams show after step `t`.
    """

    def __init__(self, space: spaces.Space[Any], first: Any) -> None:
        self._keys = list(space.spaces) if isinstance(space, spaces.Dict) else None
        shown = flatten("observation", space, first)
        dtypes = {field.name: field.dtype for field in space_fields("observation", space)}
        self._names = list(shown)
        self.num_rows = _num_rows(sum(obs.nbytes for obs in shown.values()))
        self._observations = {
            # an environment may begin with whole numbers and go on with others
            name: np.empty((self.num_rows + 1, *obs.shape), np.result_type(obs.dtype, dtypes[name]))
            for name, obs in shown.items()
        }
        self._arrays: dict[str, np.ndarray] = {}
        self._finals: dict[str, list[np.ndarray]] = {name: [] for name in self._names}
        self.row = 0
        """The row that the next step goes to."""
        self.put_observation(first, row=0)

    @property
    def is_full(self) -> bool:
        """Whether no step has room."""
        return self.row == self.num_rows

    @property
    def num_finals(self) -> int:
        """How many ends of episodes are kept."""
        return len(next(iter(self._finals.values())))

    def make(self, name: str, *, dtype: Any, shape: tuple[int, ...]) -> None:
        """Make the array of a field whose values, all streams together, have this shape."""
        self._arrays[name] = np.empty((self.num_rows, *shape), dtype)

    def put(self, name: str, value: Any) -> None:
        """Write a field of the present row, one value a stream."""
        try:
            self._arrays[name][self.row] = value
        except KeyError:
            array = np.asarray(value)
            self.make(name, dtype=array.dtype, shape=array.shape)
            self._arrays[name][self.row] = array

    def put_observation(self, obs: Any, *, row: int) -> None:
        """Write what all streams show."""
        if self._keys is None:
            self._observations["observation"][row] = obs
            return
        for name, part in zip(self._names, self._parts(obs), strict=True):
            self._observations[name][row] = part

    def add_final(self, obs: Any) -> None:
        """Keep a copy of the observation that ended one stream's episode."""
        for name, part in zip(self._names, self._parts(obs), strict=True):
            self._finals[name].append(np.array(part, dtype=self._observations[name].dtype))

    def _parts(self, obs: Any) -> Any:
        return (obs,) if self._keys is None else [obs[key] for key in self._keys]

    def take(self, num_finals: int) -> Steps:
        """Return the rows above the present one with the first `num_finals` ends, and begin anew below them."""
        num_rows = self.row
        steps = {name: array[:num_rows] for name, array in {**self._observations, **self._arrays}.items()}
        taken = Steps(
            steps=steps,
            final_observations={name: self._stacked(name, kept[:num_finals]) for name, kept in self._finals.items()},
            next_observation={name: array[num_rows].copy() for name, array in self._observations.items()},
        )
        self.row = 0
        self._finals = {name: [] for name in self._finals}
        self._arrays = {name: np.empty_like(array) for name, array in self._arrays.items()}
        self._observations = {name: np.empty_like(array) for name, array in self._observations.items()}
        for name, shown in taken.next_observation.items():
            self._observations[name][0] = shown
        return taken

    def _stacked(self, name: str, finals: list[np.ndarray]) -> np.ndarray:
        array = self._observations[name]
        return np.stack(finals) if finals else np.empty((0, *array.shape[2:]), dtype=array.dtype)
