"""An order of windows that is shuffled, yet reads a store piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from historystore.windows.draws import random_words
from historystore.windows.histories import offsets

GROUP_BLOCKS = 4
"""Blocks of a group: each end of a group costs part of a block, and smaller groups shuffle better."""
MAX_ROUNDS = 8
"""Over so many rounds a group is read, so that in each round only one group in so many is new to the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffle:
    """How to mix places: in groups of neighbours, some groups at a time.

    The groups of a pass come in random order. `num_groups` of them enter in each round, and each gives one of every
    `num_rounds` neighbouring windows to the round in which it enters and to each of the next ones, round the end of the
    pass if need be. The windows of a round are shuffled among themselves. So at any time windows come from `num_groups
    * num_rounds` random places of the store, each block is read from the disk about once a pass, and what has to be in
    memory is those groups.
    """

    num_windows: int
    group_windows: int
    """A multiple of `num_rounds`."""
    num_groups: int
    num_rounds: int

    @classmethod
    def fitting(cls, num_windows: int, *, num_blocks: int, num_slots: int, window_blocks: float) -> Shuffle:
        """Return the best shuffle of windows in `num_blocks` blocks for a memory of `num_slots` blocks.

        `window_blocks` is how many blocks a window is long, from its first to its last step.
        """
        windows_a_block = num_windows / num_blocks
        group_windows = max(1, round(GROUP_BLOCKS * windows_a_block))
        held = num_slots / (group_windows / windows_a_block + 1 + window_blocks)  # groups in memory
        num_rounds = max(1, min(MAX_ROUNDS, group_windows, int(held) - 1))
        group_windows -= group_windows % num_rounds
        num_groups = int(held / (num_rounds + 1))  # one round's more: a batch may lie in two rounds
        return cls(
            num_windows=num_windows,
            group_windows=group_windows,
            num_groups=max(1, min(num_groups, -(-num_windows // group_windows))),
            num_rounds=num_rounds,
        )


class ShuffledPass:
    """The order of one pass over all places: a function of the shuffle, the seed, the epoch and the lane.

    Costs 8 bytes a group.
    """

    def __init__(self, shuffle: Shuffle, *, seed: int, epoch: int, lane: int) -> None:
        self.shuffle = shuffle
        self.epoch = epoch
        self._seed = seed
        self._lane = lane
        self._last: tuple[int, Int64[np.ndarray, " places"]] = (-1, np.zeros(0, np.int64))

    def places(self, start: int, stop: int) -> Int64[np.ndarray, " places"]:
        """Return the places from the `start`-th to the `stop`-th of this order."""
        first, last = np.searchsorted(self._round_start, (start, stop - 1), side="right") - 1
        rounds = np.concatenate([self._round(i) for i in range(first, last + 1)])
        skipped = int(self._round_start[first])
        return rounds[start - skipped : stop - skipped]

    @cached_property
    def _groups(self) -> Int64[np.ndarray, " groups"]:
        """All groups, in the order in which they enter."""
        num_groups = -(-self.shuffle.num_windows // self.shuffle.group_windows)
        return self._permutation(0, num_groups, lane=self._lane)

    @cached_property
    def _num_entries(self) -> int:
        """How often groups enter, which is also the number of rounds of the pass."""
        return -(-len(self._groups) // self.shuffle.num_groups)

    @cached_property
    def _round_start(self) -> Int64[np.ndarray, " rounds_and_end"]:
        """Windows before each round."""
        num_rows = self.shuffle.num_groups * self.shuffle.group_windows // self.shuffle.num_rounds
        sizes = np.full((self._num_entries, self.shuffle.num_rounds), num_rows)
        short = int(np.argmax(self._groups)) // self.shuffle.num_groups  # the group with the last place may be short
        for last in {short, self._num_entries - 1}:
            sizes[last] = [len(self._dealt(last, part)) for part in range(self.shuffle.num_rounds)]
        entry, part = np.indices(sizes.shape)
        totals = np.zeros(self._num_entries, np.int64)
        np.add.at(totals, (entry + part) % self._num_entries, sizes)
        return offsets(totals)

    def _round(self, number: int) -> Int64[np.ndarray, " places"]:
        """Return the places of one round; the last one is remembered."""
        if self._last[0] != number:
            parts = range(self.shuffle.num_rounds)
            places = np.concatenate([self._dealt((number - part) % self._num_entries, part) for part in parts])
            start = int(self._round_start[number])
            self._last = number, places[self._permutation(start, start + len(places), lane=self._lane + 1)]
        return self._last[1]

    def _dealt(self, entry: int, part: int) -> Int64[np.ndarray, " places"]:
        """Return what the groups that enter together give to the `part`-th round from there.

        From each row of `num_rounds` neighbours they give one; which one, is turned on by `part`.
        """
        shuffle = self.shuffle
        num_rows = shuffle.num_groups * shuffle.group_windows // shuffle.num_rounds
        row = np.arange(entry * num_rows, (entry + 1) * num_rows)
        words = random_words(int(row[0]), int(row[-1]) + 1, seed=self._seed, epoch=self.epoch, lane=self._lane + 2)
        turn = (words % np.uint64(shuffle.num_rounds)).astype(np.int64)
        group, window = np.divmod(row * shuffle.num_rounds + (turn + part) % shuffle.num_rounds, shuffle.group_windows)
        there = group < len(self._groups)
        places = self._groups[group[there]] * shuffle.group_windows + window[there]
        return places[places < shuffle.num_windows]

    def _permutation(self, start: int, stop: int, *, lane: int) -> Int64[np.ndarray, " numbers"]:
        """Return the numbers from 0 in the order of the words `start` to `stop`."""
        words = random_words(start, stop, seed=self._seed, epoch=self.epoch, lane=lane)
        return np.argsort(words, kind="stable")
