"""The order of the windows of one source: without end, pass after pass."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import numpy as np

from historystore.windows.addresses import AddressBatch
from historystore.windows.draws import window_draws
from historystore.windows.places import Places
from historystore.windows.reading import WindowReader
from historystore.windows.samplers import WindowSampler
from historystore.windows.shuffle import Shuffle, ShuffledPass

LANES_A_SOURCE = 4
"""Lanes of random numbers: the windows' own draws, and three of a pass."""


class StreamOrder:
    """Windows without end: pass after pass over `num_windows` even windows, each pass drawn and shuffled anew.

    Where a window lies, is a function of its number, the seed and the source, of the sampler, of how the stores lie in
    shards and of the reader's memory; and of nothing else. See `WindowSampler.even_windows`, `Places` and `Shuffle`.
    """

    def __init__(
        self, sampler: WindowSampler, reader: WindowReader, *, num_windows: int, seed: int, source: int
    ) -> None:
        self.sampler = sampler
        self.num_windows = num_windows
        self._seed = seed
        self._lane = source * LANES_A_SOURCE
        self._places = Places.of(sampler, reader.layout, num_windows=num_windows)
        self.shuffle = Shuffle.fitting(
            num_windows,
            num_blocks=self._places.num_blocks,
            num_slots=reader.num_slots,
            window_blocks=sampler.length * sampler.strides[-1] / reader.layout.block_steps,
        )
        self._passes: OrderedDict[int, ShuffledPass] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_passes": OrderedDict()}

    def windows(self, start: int, stop: int) -> AddressBatch:
        """Return the windows from the `start`-th to the `stop`-th; the first of pass `i` is `i * num_windows`."""
        return AddressBatch.joined(
            [
                self._windows_of_pass(number, max(0, start - first), min(self.num_windows, stop - first))
                for number in range(start // self.num_windows, -(-stop // self.num_windows))
                for first in [number * self.num_windows]
            ]
        )

    def digest(self) -> str:
        """Return a hash of all that the order depends on."""
        sampler, places, histories = self.sampler, self._places, self.sampler.histories
        settings = (self._seed, self._lane, self.shuffle, sampler.length, sampler.strides, sampler.from_start)
        digest = hashlib.sha256(repr((*settings, sampler.splice, sampler.balance)).encode())
        for array in (
            places.first_number,
            places.first_place,
            histories.index,
            histories.learner,
            histories.task,
            histories.first_episode,
            histories.episode_start,
            histories.episode_stop,
        ):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _windows_of_pass(self, number: int, start: int, stop: int) -> AddressBatch:
        numbers = self._places.numbers(self._pass(number).places(start, stop))
        position = np.arange(start, stop)  # in the pass: draws that follow each other are made in one go
        draws = window_draws(position, seed=self._seed, epoch=number, num_draws=self.sampler.num_draws, lane=self._lane)
        return self.sampler.even_windows(numbers, draws, num_windows=self.num_windows)

    def _pass(self, number: int) -> ShuffledPass:
        """Return the order of a pass; the last two are remembered, for a batch may lie in both."""
        if number not in self._passes:
            self._passes[number] = ShuffledPass(self.shuffle, seed=self._seed, epoch=number, lane=self._lane + 1)
            if len(self._passes) > 2:
                self._passes.popitem(last=False)
        return self._passes[number]
