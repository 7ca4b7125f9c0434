"""How well learners did: their returns at the beginning and at the end, in columns over a store's learners.

Only finished episodes count: one that the end of the recording cut says nothing.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from historystore.curves import final_returns
from historystore.store import Store

PROGRESS_EPISODES = 10
"""Of the last (or first) finished episodes of a history, so many say how far its learner is."""
STABLE_SHARE = 0.1
"""The share of a history's finished episodes, its last ones, over which stability is taken."""


def learner_final_returns(store: Store) -> Float64[np.ndarray, " learners"]:
    """Return each learner's mean return over the last finished episodes of its histories; NaN without any."""
    return _mean_of_last(store, *_finished(store))


def learner_first_returns(store: Store) -> Float64[np.ndarray, " learners"]:
    """Return each learner's mean return over the first finished episodes of its histories; NaN without any."""
    history, return_ = _finished(store)
    learner = store.histories.learner[::-1]
    backwards = len(learner) - 1 - history[::-1]
    first: np.ndarray = final_returns(
        history=backwards,
        learner=learner,
        return_=return_[::-1],
        num_learners=len(store.learners),
        last=PROGRESS_EPISODES,
    )
    return first


def learner_best_returns(store: Store) -> Float64[np.ndarray, " learners"]:
    """Return the highest return of any finished episode of each learner; NaN without any."""
    history, return_ = _finished(store)
    best = np.full(len(store.learners), -np.inf)
    np.maximum.at(best, store.histories.learner[history], return_)
    return np.where(np.isneginf(best), np.nan, best)


def learner_mean_returns(store: Store) -> Float64[np.ndarray, " learners"]:
    """Return each learner's mean return over all its finished episodes; NaN without any."""
    history, return_ = _finished(store)
    learner, num_learners = store.histories.learner[history], len(store.learners)
    return _ratio(
        np.bincount(learner, weights=return_, minlength=num_learners), np.bincount(learner, minlength=num_learners)
    )


def learner_progress(store: Store) -> Float64[np.ndarray, " learners"]:
    """Return the largest share of its task's best return that each learner's last episodes reached.

    It is the share at which `is_within` still holds: `1 + (last - best) / |best|`. NaN where either is not known.
    """
    last = learner_final_returns(store)
    bounds = [learner.row.provenance.best_return for learner in store.learners]
    best = np.array([np.nan if bound is None else bound for bound in bounds], np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        progress: np.ndarray = 1 + (last - best) / np.abs(best)
    return np.where((best == 0) & (last == 0), 1.0, progress)


def learner_stability(store: Store) -> Float64[np.ndarray, " learners"]:
    """Return how steady each learner is at its end: 1 - (spread of its last returns) / (range of all its returns).

    The spread is the standard deviation over the last tenth of the finished episodes of each history, at least one; so
    1 is a learner that always returns the same at its end, and one half the least steady that there can be.
    """
    history, return_ = _finished(store)
    count = np.bincount(history, minlength=store.num_histories)
    num_after = np.searchsorted(history, history, side="right") - np.arange(len(history))
    is_last = num_after <= np.maximum(1, np.ceil(STABLE_SHARE * count))[history]
    learner, num_learners = store.histories.learner[history], len(store.learners)
    low, high = np.full(num_learners, np.inf), np.full(num_learners, -np.inf)
    np.minimum.at(low, learner, return_)
    np.maximum.at(high, learner, return_)
    owner, value = learner[is_last], return_[is_last]
    num_last = np.bincount(owner, minlength=num_learners)
    mean = _ratio(np.bincount(owner, weights=value, minlength=num_learners), num_last)
    variance = _ratio(np.bincount(owner, weights=(value - mean[owner]) ** 2, minlength=num_learners), num_last)
    with np.errstate(invalid="ignore"):
        spread = high - low
    stability: np.ndarray = 1 - _ratio(np.sqrt(variance), spread)
    return np.where(spread == 0, 1.0, stability)


def _finished(store: Store) -> tuple[Int64[np.ndarray, " episodes"], Float64[np.ndarray, " episodes"]]:
    """Return the history and the return of each finished episode, by history and step."""
    is_finished = ~store.episodes.is_cut
    return store.episodes.history[is_finished], store.episodes.return_[is_finished]


def _mean_of_last(
    store: Store, history: Int64[np.ndarray, " episodes"], return_: Float64[np.ndarray, " episodes"]
) -> Float64[np.ndarray, " learners"]:
    returns: np.ndarray = final_returns(
        history=history,
        learner=store.histories.learner,
        return_=return_,
        num_learners=len(store.learners),
        last=PROGRESS_EPISODES,
    )
    return returns


def _ratio(total: np.ndarray, count: np.ndarray) -> Float64[np.ndarray, " n"]:
    """Divide where there is something to divide by; NaN elsewhere."""
    ratio: np.ndarray = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return ratio
