"""Learning curves: the mean return of many learners along their training, in a few bins, with quartiles.

Pure functions of columns of the episode table; no step is read.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict

MAX_BINS = 48
"""The most bins a curve has, so that it fits one line of a terminal."""


class Curve(BaseModel):
    """The return of a set of learners along their training.

    Bin `i` of `n` holds the episodes that end in the share `(i / n, (i + 1) / n]` of their learner's training. The
    quartiles of a bin are over the learners' mean returns in it; None where no learner ended an episode in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    median: tuple[float | None, ...]
    lower_quartile: tuple[float | None, ...]
    upper_quartile: tuple[float | None, ...]
    num_members: tuple[int, ...]
    """Learners (or histories) behind each bin: fewer where some were interrupted."""
    min_steps: int
    """Environment steps of the shortest training, over all its streams."""
    max_steps: int
    """The same of the longest; equal to `min_steps` when position can be read as steps."""


def learning_curve(
    *,
    member: Int[np.ndarray, " episodes"],
    position: Float[np.ndarray, " episodes"],
    return_: Float[np.ndarray, " episodes"],
    training_steps: Int[np.ndarray, " members"],
    max_bins: int = MAX_BINS,
) -> Curve | None:
    """Return the quartiles over members of their mean return along training; None without a finished episode.

    Args:
        member: which member (a learner, or a history) each finished episode belongs to.
        position: the share of its member's training at which each episode ends, in (0, 1].
        return_: each episode's return.
        training_steps: how many environment steps each member's whole training has.
        max_bins: bins are fewer where the middle member has fewer moments at which episodes end.
    """
    num_members = len(training_steps)
    if not len(member):
        return None
    num_ends = np.bincount(np.unique(2 * member + position).astype(np.int64) // 2, minlength=num_members)
    num_bins = int(np.clip(np.median(num_ends[num_ends > 0]), 1, max_bins))
    # rounded first: 0.3 * 10 is a little more than 3, and that episode ends in bin 2
    column = np.clip(np.ceil(np.round(position * num_bins, 9)).astype(np.int64) - 1, 0, num_bins - 1)
    mean = _cell_means(member * num_bins + column, return_, num_members * num_bins).reshape(num_members, num_bins)
    lower, median, upper = (finite_or_none(row) for row in column_quantiles(mean, (0.25, 0.5, 0.75)))
    present = training_steps[num_ends > 0]
    return Curve(
        median=median,
        lower_quartile=lower,
        upper_quartile=upper,
        num_members=tuple(np.isfinite(mean).sum(axis=0).tolist()),
        min_steps=int(present.min()),
        max_steps=int(present.max()),
    )


def final_returns(
    *,
    history: Int[np.ndarray, " episodes"],
    learner: Int[np.ndarray, " histories"],
    return_: Float[np.ndarray, " episodes"],
    num_learners: int,
    last: int,
) -> Float[np.ndarray, " learners"]:
    """Return each learner's mean return over the last episodes of each of its histories; NaN without any.

    The episodes are finished ones, sorted by history and then by step.
    """
    num_after = np.searchsorted(history, history, side="right") - np.arange(len(history))
    is_last = num_after <= last
    return _cell_means(learner[history[is_last]], return_[is_last], num_learners)


def is_within(
    value: Float[np.ndarray, " learners"], best: Float[np.ndarray, " learners"], *, share: float
) -> Bool[np.ndarray, " learners"]:
    """Say which values reach a share of the best: `best - (1 - share) |best|`, so that negative returns work too."""
    result: np.ndarray = np.greater_equal(value, best - (1 - share) * np.abs(best))
    return result


def column_quantiles(
    values: Float[np.ndarray, "rows columns"], quantiles: tuple[float, ...]
) -> Float[np.ndarray, "quantiles columns"]:
    """Return linearly interpolated quantiles of each column, leaving NaN out; NaN for a column of nothing else."""
    ordered = np.sort(values, axis=0)  # NaN sorts last
    num_finite = np.isfinite(values).sum(axis=0)
    rank = np.outer(quantiles, np.maximum(num_finite - 1, 0))  # (quantiles, columns)
    below = np.floor(rank).astype(np.int64)
    above = np.ceil(rank).astype(np.int64)
    columns = np.arange(values.shape[1])
    low, high = ordered[below, columns], ordered[above, columns]
    result: np.ndarray = low + (high - low) * (rank - below)
    return result


def finite_or_none(values: Float[np.ndarray, " n"]) -> tuple[float | None, ...]:
    """Return plain numbers with None for what JSON cannot say."""
    return tuple(value if np.isfinite(value) else None for value in values.tolist())


def _cell_means(
    cell: Int[np.ndarray, " n"], value: Float[np.ndarray, " n"], num_cells: int
) -> Float[np.ndarray, " cells"]:
    count = np.bincount(cell, minlength=num_cells)
    total = np.bincount(cell, weights=value, minlength=num_cells)
    mean: np.ndarray = np.divide(total, count, out=np.full(num_cells, np.nan), where=count > 0)
    return mean
