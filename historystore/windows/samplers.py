"""Which windows to read: pure functions from random numbers to addresses."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from historystore.errors import InvalidValue
from historystore.windows.addresses import AddressBatch, merge_runs
from historystore.windows.histories import Histories
from historystore.windows.starts import Starts, history_weights

BALANCES = ("steps", "histories", "tasks")
"""What may be drawn evenly."""

STRIDE, FROM_START, HISTORY, PLACE = range(4)
"""Which draw decides what; the draws after these choose the streams of a spliced window, one a splice."""
NUM_DRAWS = 4


class _Tables(NamedTuple):
    """What is looked up for every window."""

    starts: Starts
    weight_before: Float64[np.ndarray, " strides_x_histories_and_end"]
    """Summed weights of the (stride, history) rows before each."""
    episode_key: Int64[np.ndarray, " episodes"]
    """Grows with (history, start): finds the first episode of a history from some step on."""
    mates: Int64[np.ndarray, " histories"]
    """Histories by learner."""
    first_mate: Int64[np.ndarray, " histories"]
    num_mates: Int64[np.ndarray, " histories"]


class WindowSampler:
    """Draws windows of `length` consecutive steps, across episodes.

    Every window is a function of its own row of draws in [0, 1), `num_draws` wide; so windows can be drawn one by one
    or a million at once, in any order, from any source of randomness.

    Where windows may start: at every step from which they come out full, all equally likely (`balance="steps"`), or all
    histories equally likely and then their starts (`"histories"`), or all tasks (`"tasks"`). Only where a history with
    its stride is too short for any full window is a window shorter than `length`.

    `episode_stride` keeps every k-th episode; for a range (lo, hi) each window draws its own k, both ends included.
    A share `from_start` of the windows opens a history: they start with one of its first k episodes.

    With `splice`, each further episode comes from a stream of the same learner drawn at random: from the k-th episode
    that starts there at or after the step at which the last one ended, for a learner's streams step together. Where
    episodes differ in length this may pass the end of the history, and the window is shorter.
    """

    def __init__(
        self,
        histories: Histories,
        *,
        length: int,
        episode_stride: int | tuple[int, int] = 1,
        from_start: float | int = 0.0,
        splice: bool = False,
        balance: str = "steps",
    ) -> None:
        self.strides = _strides(episode_stride)
        _check(histories, length=length, strides=self.strides, from_start=from_start, balance=balance)
        self.is_plain = self.strides == range(1, 2) and not splice
        """Whether each window is one run; then it does not matter where episodes end."""
        self.histories = histories.joined() if self.is_plain else histories
        self.length = length
        self.from_start = from_start
        self.splice = splice
        self.balance = balance

    @property
    def num_draws(self) -> int:
        """Random numbers that one window takes."""
        return NUM_DRAWS + (self.length - 1 if self.splice else 0)

    def sample(self, generator: np.random.Generator, num_windows: int) -> AddressBatch:
        """Draw windows with a generator."""
        return self.windows(generator.random((num_windows, self.num_draws)))

    @property
    def shares_before(self) -> Float64[np.ndarray, " histories_and_end"]:
        """The share of windows that start in the histories before each, for the smallest stride."""
        before = self._tables.weight_before[: len(self.histories) + 1]
        shares: np.ndarray = before / before[-1]
        return shares

    def even_windows(
        self, numbers: Int64[np.ndarray, " windows"], draws: Float64[np.ndarray, "windows draws"], *, num_windows: int
    ) -> AddressBatch:
        """Return some of `num_windows` windows that spread evenly over all that may be drawn.

        All places, in the order of the histories and their steps, fall into `num_windows` parts that are equally
        likely; window `i` is drawn from part `i`. So all of them together are distributed as any one window is, but
        windows of consecutive steps, as many as hold all steps once, leave out 1 step in 6 and not 1 in 3.
        """
        draws = draws.copy()
        draws[:, HISTORY] = (numbers + draws[:, HISTORY]) / num_windows
        history_row, wanted = self._history_row(draws)
        before = self._tables.weight_before
        inside = (wanted - before[history_row]) / (before[history_row + 1] - before[history_row])
        return self._windows(history_row, np.minimum(inside, np.nextafter(1.0, 0.0)), draws)

    def windows(self, draws: Float64[np.ndarray, "windows draws"]) -> AddressBatch:
        """Return the windows that rows of draws in [0, 1) stand for."""
        return self._windows(self._history_row(draws)[0], draws[:, PLACE], draws)

    def _windows(
        self,
        history_row: Int64[np.ndarray, " windows"],
        place: Float64[np.ndarray, " windows"],
        draws: Float64[np.ndarray, "windows draws"],
    ) -> AddressBatch:
        """Return windows by (stride, history) row and by the place in that history, a share of its starts."""
        history, episode, offset, stride = self._starts_of(history_row, place, draws[:, FROM_START])
        if self.is_plain:
            start = self.histories.episode_start[episode] + offset
            stop = np.minimum(start + self.length, self.histories.episode_stop[episode])
            first_run = np.arange(len(start) + 1)
            return AddressBatch(history=self.histories.index[history], start=start, stop=stop, first_run=first_run)
        return self._runs(history, episode, offset, stride, draws[:, NUM_DRAWS:])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_tables"}

    @cached_property
    def _tables(self) -> _Tables:
        """Built on first use, in each process: they are larger than what they are made of."""
        histories, span = self.histories, self._span
        starts = Starts.of(histories, length=self.length, strides=self.strides)
        weights = history_weights(starts, histories, balance=self.balance, strides=self.strides)
        _, group, num_mates = np.unique(histories.learner, return_inverse=True, return_counts=True)
        return _Tables(
            starts=starts,
            weight_before=np.concatenate([np.zeros(1), np.cumsum(weights)]),
            episode_key=histories.episode_history * span + histories.episode_start,
            mates=np.argsort(group, kind="stable"),
            first_mate=(np.cumsum(num_mates) - num_mates)[group],
            num_mates=num_mates[group],
        )

    @cached_property
    def _span(self) -> int:
        """More than any step at which an episode stops."""
        return int(self.histories.episode_stop.max()) + 1

    def _history_row(
        self, draws: Float64[np.ndarray, "windows draws"]
    ) -> tuple[Int64[np.ndarray, " windows"], Float64[np.ndarray, " windows"]]:
        """Return each window's (stride, history) row, and what was wanted of the summed weights."""
        before, num_histories = self._tables.weight_before, len(self.histories)
        row = _scaled(draws[:, STRIDE], len(self.strides))
        lower, upper = before[row * num_histories], before[(row + 1) * num_histories]
        wanted = np.minimum(lower + draws[:, HISTORY] * (upper - lower), np.nextafter(upper, lower))
        return _row_of(before, wanted), wanted

    def _starts_of(
        self,
        history_row: Int64[np.ndarray, " windows"],
        place: Float64[np.ndarray, " windows"],
        from_start: Float64[np.ndarray, " windows"],
    ) -> tuple[Int64[np.ndarray, " windows"], ...]:
        """Return each window's history, first episode, offset in that episode, and stride."""
        tables, histories = self._tables, self.histories
        row, history = np.divmod(history_row, len(histories))
        first_episode_row = row * len(histories.episode_start) + histories.first_episode[history]
        next_episode_row = first_episode_row + histories.num_episodes[history]
        before = tables.starts.before
        low = before[first_episode_row]
        nth = low + _scaled(place, before[next_episode_row] - low)
        episode_row = _row_of(before, nth)
        offset = nth - before[episode_row]
        if self.from_start:
            low = tables.starts.first_opening[history_row]
            nth = low + _scaled(place, tables.starts.first_opening[history_row + 1] - low)
            opens = from_start < self.from_start
            episode_row = np.where(opens, tables.starts.openings[nth], episode_row)
            offset = np.where(opens, 0, offset)
        return history, episode_row - row * len(histories.episode_start), offset, row + self.strides.start

    def _runs(
        self,
        history: Int64[np.ndarray, " windows"],
        episode: Int64[np.ndarray, " windows"],
        offset: Int64[np.ndarray, " windows"],
        stride: Int64[np.ndarray, " windows"],
        splices: Float64[np.ndarray, "windows splices"],
    ) -> AddressBatch:
        """Follow the windows episode by episode, all of them at once, until each is full or at its history's end."""
        histories, missing = self.histories, np.full(len(history), self.length)
        columns: list[tuple[np.ndarray, ...]] = []
        while missing.any():
            start = histories.episode_start[episode] + offset
            stop = np.minimum(histories.episode_stop[episode], start + missing)
            columns.append((histories.index[history], start, stop))
            missing = missing - (stop - start)
            following = episode + 1
            if self.splice and missing.any():
                history, following = self._splice(history, stop, splices[:, len(columns) - 1])
            following = following + stride - 1
            missing = np.where(following < histories.first_episode[history + 1], missing, 0)
            episode, offset = np.where(missing > 0, following, episode), np.zeros_like(offset)
        index, start, stop = (np.stack(column, axis=1) for column in zip(*columns, strict=True))  # (windows, runs)
        is_run = stop > start
        first_run = np.concatenate([np.zeros(1, np.int64), np.cumsum(is_run.sum(axis=1))])
        return merge_runs(
            AddressBatch(history=index[is_run], start=start[is_run], stop=stop[is_run], first_run=first_run)
        )

    def _splice(
        self,
        history: Int64[np.ndarray, " windows"],
        step: Int64[np.ndarray, " windows"],
        draw: Float64[np.ndarray, " windows"],
    ) -> tuple[Int64[np.ndarray, " windows"], Int64[np.ndarray, " windows"]]:
        """Draw a stream of the same learner; return it and its first episode from `step` on."""
        tables = self._tables
        mate = tables.mates[tables.first_mate[history] + _scaled(draw, tables.num_mates[history])]
        return mate, np.searchsorted(tables.episode_key, mate * self._span + step)


def _scaled(draw: Float64[np.ndarray, " windows"], num: int | Int64[np.ndarray, " windows"]) -> np.ndarray:
    """Return a number from 0 up to `num`, which is left out."""
    scaled: np.ndarray = (draw * num).astype(np.int64)
    return scaled


def _row_of(before: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the last row before which there is no more than is wanted: the row in which that lies."""
    row: np.ndarray = np.searchsorted(before, wanted, side="right") - 1
    return row


def _strides(episode_stride: int | tuple[int, int]) -> range:
    """Return the strides to draw from."""
    ends = tuple(episode_stride) if isinstance(episode_stride, (tuple, list)) else (episode_stride, episode_stride)
    if len(ends) != 2 or not all(isinstance(end, (int, np.integer)) for end in ends) or not 1 <= ends[0] <= ends[1]:
        raise InvalidValue(
            f"windows: episode_stride is no whole number from 1 up and no range of them, got {episode_stride!r}. "
            "Use 1 to keep every episode, (4, 8) to keep every 4th to 8th."
        )
    return range(int(ends[0]), int(ends[1]) + 1)


def _check(histories: Histories, *, length: int, strides: range, from_start: float | int, balance: str) -> None:
    if not len(histories):
        raise InvalidValue("windows: there is no history to draw from. Record some, or select others.")
    if length < 1:
        raise InvalidValue(f"windows: length is not a whole number from 1 up, got {length}. Use such as 200.")
    if length > (longest := int(histories.num_steps.max())):
        raise InvalidValue(
            f"windows: a context of {length} steps is longer than every history, the longest has {longest}. "
            "Use a shorter context, or record more steps."
        )
    if strides[-1] > (most := int(histories.num_episodes.max())):
        raise InvalidValue(
            f"windows: an episode stride of {strides[-1]} is longer than every history, the longest has {most} "
            "episodes. Use a smaller stride."
        )
    if not 0 <= from_start <= 1:
        raise InvalidValue(f"windows: from_start is not a share from 0 to 1, got {from_start}. Use such as 0.25.")
    if balance not in BALANCES:
        known = ", ".join(BALANCES)
        raise InvalidValue(f"windows: no such balance, expected one of {known}, got {balance!r}. Choose one.")
