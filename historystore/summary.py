"""What is in a store, at a glance: counts, sizes, the learning curve and provenance, from the index alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, JsonValue

from historystore.curves import Curve, is_within, learning_curve
from historystore.documents import LearnerRow, canonical_json
from historystore.errors import HistoryError
from historystore.fields import Field
from historystore.places import Place, StorePath
from historystore.returns import PROGRESS_EPISODES, learner_final_returns
from historystore.store import Store, list_stores
from historystore.store import open as open_store

CONVERGED_SHARE = 0.9
"""The share of its task's best return at which a learner counts as converged."""


class Summary(BaseModel):
    """What one view of a store says."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LearnerCounts(Summary):
    """How many learners are in which state."""

    complete: int
    partial: int
    failed: int


class Convergence(Summary):
    """How many learners ended near the best return of their task."""

    share_of_best: float
    num_last_episodes: int
    """The final return is the mean over so many last episodes of each history."""
    num_reached: int
    num_known: int
    """Learners whose task's best return is known."""
    best_return: float | None
    """Mean over those learners' tasks."""
    random_return: float | None


class ProvenanceSummary(Summary):
    """Where the learners came from: every distinct value, sorted."""

    engines: tuple[str, ...]
    versions: dict[str, tuple[str, ...]]
    git_commits: tuple[str, ...]
    hosts: tuple[str, ...]
    environments: tuple[str, ...]
    first_started: str | None
    last_ended: str | None


class StoreSummary(Summary):
    """One store at a glance."""

    path: str
    id: str
    format_version: str
    digest: str
    family: str
    algorithms: dict[str, int]
    """Algorithm -> learners."""
    num_tasks: int
    example_task: dict[str, JsonValue] | None
    """The first learner's task, to look into; None in an empty store."""
    learners: LearnerCounts
    num_histories: int
    num_episodes: int
    num_steps: int
    num_bytes: int
    bytes_per_step: float | None
    num_shards: int
    fields: tuple[Field, ...]
    curve: Curve | None
    convergence: Convergence
    provenance: ProvenanceSummary


class StoreLine(Summary):
    """One store among others; `problem` instead of the rest where it cannot be opened."""

    path: str
    family: str | None = None
    learners: LearnerCounts | None = None
    num_histories: int = 0
    num_episodes: int = 0
    num_steps: int = 0
    num_bytes: int = 0
    problem: str | None = None


class StoreList(Summary):
    """The stores of a folder."""

    folder: str
    stores: tuple[StoreLine, ...]


def store_list(folder: StorePath | Place) -> StoreList:
    """List the stores in a folder, a damaged one with its problem instead of its counts."""
    return StoreList(folder=str(folder), stores=tuple(_store_line(path) for path in list_stores(folder)))


def store_summary(store: Store) -> StoreSummary:
    """Summarise a store.

    Costs the index alone, whatever the store's size: no shard is opened (`tests/test_cli_inspect.py` holds it).
    """
    rows = [learner.row for learner in store.learners]
    return StoreSummary(
        path=str(store.place),
        id=store.document.id,
        format_version=store.document.format_version,
        digest=store.digest,
        family=store.document.family,
        algorithms=dict(sorted(Counter(row.spec.algorithm for row in rows).items())),
        num_tasks=len({canonical_json(row.spec.task) for row in rows}),
        example_task=rows[0].spec.task if rows else None,
        learners=learner_counts(store),
        num_histories=store.num_histories,
        num_episodes=store.num_episodes,
        num_steps=store.num_steps,
        num_bytes=store.num_bytes,
        bytes_per_step=store.num_bytes / store.num_steps if store.num_steps else None,
        num_shards=len(store.shard_names),
        fields=store.fields,
        curve=curve_of(store),
        convergence=_convergence(rows, learner_final_returns(store)),
        provenance=provenance_of(rows),
    )


def learner_counts(store: Store) -> LearnerCounts:
    """Count learners by status."""
    status = Counter(store.status_of().values())
    return LearnerCounts(complete=status["complete"], partial=status["partial"], failed=status["failed"])


def training_steps(store: Store) -> Int[np.ndarray, " learners"]:
    """Return the environment steps of each learner's whole training: planned ones while it is not complete."""
    recorded = np.bincount(store.histories.learner, weights=store.histories.num_steps, minlength=len(store.learners))
    planned = [0 if one.status == "complete" else one.spec.num_steps for one in store.learners]
    return np.maximum(recorded.astype(np.int64), np.asarray(planned, dtype=np.int64))


def curve_of(store: Store, learners: Bool[np.ndarray, " learners"] | None = None) -> Curve | None:
    """Return the learning curve over some learners, all by default.

    An episode's place is the share of its learner's own training that is over when it ends, so that learners of
    different lengths are compared at the same stage; an interrupted one counts in the bins that it reached.
    """
    steps = training_steps(store)
    episodes, histories = store.episodes, store.histories
    learner = histories.learner[episodes.history]
    chosen = ~episodes.is_cut
    if learners is not None:
        chosen &= learners[learner]
    learner, history = learner[chosen], episodes.history[chosen]
    num_streams = np.bincount(histories.learner, minlength=len(store.learners))
    stop = (episodes.first_step + episodes.length)[chosen]
    return learning_curve(
        member=learner,
        position=np.minimum(stop * num_streams[histories.learner[history]] / steps[learner], 1.0),
        return_=episodes.return_[chosen].astype(np.float64),
        training_steps=steps,
    )


def provenance_of(rows: list[LearnerRow]) -> ProvenanceSummary:
    """Gather the distinct origins of some learners."""
    origins = [row.provenance for row in rows]
    names = sorted({name for origin in origins for name in origin.versions})
    return ProvenanceSummary(
        engines=_distinct(f"{origin.engine} {origin.engine_version}" for origin in origins),
        versions={name: _distinct(origin.versions.get(name) for origin in origins) for name in names},
        git_commits=_distinct(origin.git_commit for origin in origins),
        hosts=_distinct(origin.host for origin in origins),
        environments=_distinct(origin.environment for origin in origins),
        first_started=min((row.started for row in rows), default=None),
        last_ended=max((row.ended for row in rows if row.ended), default=None),
    )


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({value for value in values if value}))


def _convergence(rows: list[LearnerRow], final: Float[np.ndarray, " learners"]) -> Convergence:
    best = np.array([_or_nan(row.provenance.best_return) for row in rows])
    random = np.array([_or_nan(row.provenance.random_return) for row in rows])
    known = np.isfinite(best)
    return Convergence(
        share_of_best=CONVERGED_SHARE,
        num_last_episodes=PROGRESS_EPISODES,
        num_reached=int(is_within(final, best, share=CONVERGED_SHARE).sum()),
        num_known=int(known.sum()),
        best_return=float(best[known].mean()) if known.any() else None,
        random_return=float(random[known].mean()) if known.any() and np.isfinite(random[known]).all() else None,
    )


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _store_line(path: Path | str) -> StoreLine:
    try:
        store = open_store(path)
        return StoreLine(
            path=str(path),
            family=store.document.family,
            learners=learner_counts(store),
            num_histories=store.num_histories,
            num_episodes=store.num_episodes,
            num_steps=store.num_steps,
            num_bytes=store.num_bytes,
        )
    except HistoryError as error:
        return StoreLine(path=str(path), problem=str(error))
