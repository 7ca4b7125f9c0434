"""Random numbers that belong to a window, whoever asks for it and when."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Float64, Int64, UInt64

_WORDS_A_COUNT = 4
"""Philox makes four 64-bit words for each value of its counter."""


def window_draws(
    indices: Int64[np.ndarray, " windows"], *, seed: int, epoch: int, num_draws: int, lane: int = 0
) -> Float64[np.ndarray, "windows draws"]:
    """Return `num_draws` numbers in [0, 1) for each window of an epoch.

    They come from Philox4x64-10, a counter-based generator (Salmon et al., "Parallel random numbers: as easy as 1, 2,
    3", SC 2011), with (seed, epoch) as its key; window `i` owns the counters from `i * c` to `(i + 1) * c`, where `c`
    counters make enough words. So the numbers of a window depend on seed, epoch, `i` and `num_draws` alone. Windows
    that follow each other are drawn in one go. Another `lane` is another sequence of numbers.
    """
    num_counts = -(-num_draws // _WORDS_A_COUNT)
    num_words = num_counts * _WORDS_A_COUNT
    words = np.empty((len(indices), num_words), dtype=np.uint64)
    is_head = np.ones(len(indices), dtype=bool)
    is_head[1:] = indices[1:] != indices[:-1] + 1
    for low, high in pairwise([*np.flatnonzero(is_head).tolist(), len(indices)]):
        generator = _philox(int(indices[low]) * num_counts, seed=seed, epoch=epoch, lane=lane)
        words[low:high] = generator.random_raw((high - low) * num_words).reshape(high - low, num_words)
    return (words[:, :num_draws] >> np.uint64(11)) * 2.0**-53


def random_words(start: int, stop: int, *, seed: int, epoch: int, lane: int) -> UInt64[np.ndarray, " words"]:
    """Return the words `start` to `stop` of a lane of an epoch: whatever part is asked for, they are the same."""
    counter, num_skipped = divmod(start, _WORDS_A_COUNT)
    words = _philox(counter, seed=seed, epoch=epoch, lane=lane).random_raw(num_skipped + stop - start)
    return words[num_skipped:]


def _philox(counter: int, *, seed: int, epoch: int, lane: int) -> np.random.Philox:
    """Return the generator at a counter; the lane is the highest of the counter's four words."""
    return np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64), counter=counter + (lane << 192))
