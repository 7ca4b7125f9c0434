"""Random numbers of many learners, each from its own generator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

_STREAM = 1
"""Apart from the seed, so that a learner's draws are not those of its environment, which has the same seed."""
_ROWS = 256


def learner_generators(seeds: Sequence[int]) -> list[np.random.Generator]:
    """Return the generator of each learner."""
    return [np.random.default_rng((seed, _STREAM)) for seed in seeds]


class Draws:
    """Uniform numbers from [0, 1), some a learner and step, drawn for many steps at once."""

    def __init__(self, generators: Sequence[np.random.Generator], *, num_draws: int) -> None:
        self._generators = generators
        self._drawn = np.empty((len(generators), _ROWS, num_draws))
        self._rows: Float64[np.ndarray, "time draws learners"] = self._drawn.transpose(1, 2, 0)
        self._row = _ROWS

    def next(self) -> Float64[np.ndarray, "draws learners"]:
        """Return the numbers of the next step."""
        if self._row == _ROWS:
            for generator, drawn in zip(self._generators, self._drawn, strict=True):
                generator.random(out=drawn)
            self._rows = np.ascontiguousarray(self._drawn.transpose(1, 2, 0))  # (rows, draws, learners)
            self._row = 0
        self._row += 1
        row: np.ndarray = self._rows[self._row - 1]
        return row
