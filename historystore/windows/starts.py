"""At which steps windows may start, for each episode stride of a range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from historystore.windows.histories import Histories, offsets


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Starts:
    """The steps at which a window may start, by stride and episode.

    A window that starts in episode `e` goes on in `e + stride`, `e + 2 stride`, ... of the same history. It may start
    wherever it comes out full. In a history that has no such step, each of the `stride` episode sequences has one
    start, at its first step; those windows end in padding.

    Rows are (stride, episode) or (stride, history), in C order. Costs 8 bytes an episode and stride.
    """

    before: Int64[np.ndarray, " strides_x_episodes_and_end"]
    """Starts in all rows before each."""
    openings: Int64[np.ndarray, " openings"]
    """Rows among the first `stride` episodes of a history in which a window may start."""
    first_opening: Int64[np.ndarray, " strides_x_histories_and_end"]

    @classmethod
    def of(cls, histories: Histories, *, length: int, strides: range) -> Starts:
        """Find the starts of windows of `length` steps."""
        counts = np.concatenate([_counts(histories, length=length, stride=stride) for stride in strides])
        is_opening = np.concatenate([histories.place < stride for stride in strides]) & (counts > 0)
        openings = np.flatnonzero(is_opening)
        num_openings = np.concatenate([histories.summed(row) for row in is_opening.reshape(len(strides), -1)])
        return cls(before=offsets(counts), openings=openings, first_opening=offsets(num_openings))


def history_weights(
    starts: Starts, histories: Histories, *, balance: str, strides: range
) -> Float64[np.ndarray, "strides histories"]:
    """Return how likely each history is for each stride, up to a factor."""
    counts = np.diff(starts.before).reshape(len(strides), -1)  # (strides, episodes)
    weights: np.ndarray = np.stack([histories.summed(row) for row in counts]).astype(np.float64)
    if balance == "histories":
        weights = (weights > 0).astype(np.float64)
    if balance == "tasks":
        totals = np.stack([np.bincount(histories.task, weights=row)[histories.task] for row in weights])
        weights = np.divide(weights, totals, out=np.zeros_like(weights), where=totals > 0)
    return weights


def _counts(histories: Histories, *, length: int, stride: int) -> Int64[np.ndarray, " episodes"]:
    """Count the starts in each episode."""
    sizes = histories.episode_stop - histories.episode_start
    counts: np.ndarray = np.clip(_kept_steps(histories, length=length, stride=stride) - length + 1, 0, sizes)
    is_short = np.repeat(histories.summed(counts) == 0, histories.num_episodes)
    counts[is_short & (histories.place < stride)] = 1
    return counts


def _kept_steps(histories: Histories, *, length: int, stride: int) -> Int64[np.ndarray, " episodes"]:
    """Count the steps of each episode, of every `stride`-th after it in its history, or of enough of those.

    Sums over 1, 2, 4, ... episodes at once: the sum over 2m from e is that over m from e plus that over m from e + m.
    """
    sizes: np.ndarray = histories.episode_stop - histories.episode_start
    if not len(sizes):
        return sizes
    kept: np.ndarray = sizes.copy()
    is_enough = length + sizes.max()
    last = np.repeat(histories.first_episode[1:], histories.num_episodes)
    num_summed, ahead = 1, stride
    while ahead < histories.num_episodes.max() and num_summed * sizes.min() < is_enough:
        is_inside = np.arange(ahead, len(sizes)) < last[:-ahead]
        kept[:-ahead] += np.where(is_inside, kept[ahead:], 0)
        num_summed, ahead = 2 * num_summed, 2 * ahead
    return kept
