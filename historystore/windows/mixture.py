"""Which of several sources each sample comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from historystore.errors import InvalidValue
from historystore.windows.draws import random_words

TURN_SAMPLES = 1024
"""So many samples follow each other in which every source has its share, to within one sample; more where a source
would not get one of them."""
MAX_TURN_SAMPLES = 1 << 20
LANE = 2**63
"""Of the random numbers that shuffle a turn; no source's lanes reach it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixture:
    """Samples from several sources, in given proportions.

    Samples are counted from 0 without end. Those of a turn of `turn_samples` are dealt to the sources by their shares,
    rounded such that the sum over all turns so far is right to within one, and then shuffled. So the source of a
    sample, and how many of that source came before, are functions of the seed and the sample's number alone.
    """

    share_before: Float64[np.ndarray, " sources_and_end"]
    turn_samples: int
    seed: int

    @classmethod
    def of(cls, weights: Sequence[float | int], *, seed: int) -> Mixture:
        """Return a mixture by the sources' weights.

        Raises:
            InvalidValue: a weight is not above 0, or so small that its source would not get a sample each turn.
        """
        array = np.array(weights, dtype=np.float64)
        if not len(array) or not np.isfinite(array).all() or (array * MAX_TURN_SAMPLES < array.sum()).any():
            raise InvalidValue(
                f"stream: weights are not finite numbers above 0, each at least 1/{MAX_TURN_SAMPLES} of their sum, got "
                f"{list(weights)}. Give each dataset such a weight."
            )
        before = np.concatenate([np.zeros(1), np.cumsum(array)])
        turn_samples = max(TURN_SAMPLES, 1 << (int(array.sum() / array.min())).bit_length())
        return cls(share_before=before / before[-1], turn_samples=turn_samples, seed=seed)

    @property
    def num_sources(self) -> int:
        """How many sources there are."""
        return len(self.share_before) - 1

    def dealt(self, start: int, stop: int) -> tuple[Int64[np.ndarray, " samples"], Int64[np.ndarray, " sources"]]:
        """Return the source of each sample from `start` to `stop`, and how many came from each source before those."""
        if self.num_sources == 1:
            return np.zeros(stop - start, np.int64), np.array([start])
        first, skipped = divmod(start, self.turn_samples)
        last = (stop - 1) // self.turn_samples
        sources = np.concatenate([self._turn(i) for i in range(first, last + 1)])
        before = self._before(first) + np.bincount(sources[:skipped], minlength=self.num_sources)
        return sources[skipped : skipped + stop - start], before

    def _turn(self, number: int) -> Int64[np.ndarray, " samples"]:
        """Return the sources of one turn's samples."""
        counts = self._before(number + 1) - self._before(number)
        first, last = number * self.turn_samples, (number + 1) * self.turn_samples
        words = random_words(first, last, seed=self.seed, epoch=0, lane=LANE)
        return np.repeat(np.arange(self.num_sources), counts)[np.argsort(words, kind="stable")]

    def _before(self, turn: int) -> Int64[np.ndarray, " sources"]:
        """Return how many samples of each source come before a turn."""
        return np.diff(np.floor(turn * self.turn_samples * self.share_before + 0.5).astype(np.int64))
