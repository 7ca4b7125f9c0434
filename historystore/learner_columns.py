"""What a condition on learners may name: columns over a store's learners, and those of their histories and episodes.

A condition decides over whole learners: `hist filter --where`, and `where` of the windows. So columns of histories and
episodes enter through aggregates over the learner's own ones, as in `mean(episode.length) < 15`. Episodes that the end
of a recording cut count nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Int64

from historystore.errors import InvalidValue
from historystore.expressions import Expression, parse_expression
from historystore.returns import (
    learner_best_returns,
    learner_final_returns,
    learner_first_returns,
    learner_mean_returns,
    learner_progress,
    learner_stability,
)
from historystore.store import Learner, Store

Predicate: TypeAlias = Callable[[Learner], bool]
Column: TypeAlias = Callable[[Store], Sequence[Any]]


def _each(value: Callable[[Learner], Any]) -> Column:
    """Return the column of a value of each learner."""
    return lambda store: [value(learner) for learner in store.learners]


def _known(values: Callable[[Store], np.ndarray]) -> Column:
    """Return a column of numbers with None for what is not known."""
    return lambda store: [None if value != value else value for value in values(store).tolist()]


def _improvement(store: Store) -> np.ndarray:
    improvement: np.ndarray = learner_final_returns(store) - learner_first_returns(store)
    return improvement


COLUMNS: Mapping[str, tuple[str, Column]] = {
    "id": ("the learner's id", _each(lambda one: one.id)),
    "algo": ("its algorithm, such as 'PPO'", _each(lambda one: one.spec.algorithm)),
    "algorithm": ("the same", _each(lambda one: one.spec.algorithm)),
    "policy": ("its policy", _each(lambda one: one.spec.policy)),
    "seed": ("its seed", _each(lambda one: one.spec.seed)),
    "task": ("its task, a JSON object", _each(lambda one: one.spec.task)),
    "hyperparameters": ("a JSON object", _each(lambda one: one.spec.hyperparameters)),
    "env_args": ("arguments of its environment, a JSON object", _each(lambda one: one.spec.env_args)),
    "status": ("complete, partial or failed", _each(lambda one: one.status)),
    "engine": ("what recorded it, such as 'sb3'", _each(lambda one: one.row.provenance.engine)),
    "provenance": (
        "a JSON object: versions, host, git_commit ...",
        _each(lambda one: one.row.provenance.model_dump(mode="json")),
    ),
    "num_streams": ("its parallel environments", _each(lambda one: one.spec.num_streams)),
    "num_steps": ("steps of all its histories", _each(lambda one: sum(each.num_steps for each in one.histories))),
    "num_updates": ("its updates", _each(lambda one: one.row.num_updates)),
    "num_episodes": ("its finished episodes", _each(lambda one: sum(_num_finished(each) for each in one.histories))),
    "return_first": ("mean return of the first 10 episodes of each history", _known(learner_first_returns)),
    "return_last": ("mean return of the last 10 episodes of each history", _known(learner_final_returns)),
    "return_mean": ("mean return of all episodes", _known(learner_mean_returns)),
    "return_best": ("highest return of an episode", _known(learner_best_returns)),
    "best": ("return of an optimal policy on its task", _each(lambda one: one.row.provenance.best_return)),
    "random": ("return of random actions on its task", _each(lambda one: one.row.provenance.random_return)),
    "progress": ("the share of best that return_last reached", _known(learner_progress)),
    "improvement": ("return_last - return_first", _known(_improvement)),
    "stability": ("1 - spread of the last tenth of its returns / range of all", _known(learner_stability)),
}
"""Name of a learner's column -> what it is, and what works it out over a store."""
TABLES: Mapping[str, tuple[str, ...]] = {
    "history": ("stream", "num_steps", "num_episodes"),
    "episode": ("stream", "first_step", "length", "return", "terminated", "truncated", "seed"),
}
"""The tables of which a learner has many rows, and their columns."""


def parse_where(text: str) -> Expression:
    """Parse a condition on learners; see `historystore.expressions` for the language and `COLUMNS` for the names.

    Raises:
        InvalidValue: it is not in the language, or names something unknown; says at which character.
    """
    return parse_expression(text, names=COLUMNS, tables=TABLES)


def matching(store: Store, where: Predicate | str) -> Bool[np.ndarray, " learners"]:
    """Say which learners of a store meet a condition; no step is read.

    Raises:
        InvalidValue: the condition cannot be parsed, or compares what cannot be compared.
    """
    if callable(where):
        return np.array([bool(where(learner)) for learner in store.learners], bool)
    expression = parse_where(where)
    columns = {name: COLUMNS[name][1](store) for name in expression.names}
    tables = {name: _ROWS[name](store) for name in expression.tables}
    answers = np.zeros(len(store.learners), bool)
    for i in range(len(answers)):
        values = {name: column[i] for name, column in columns.items()}
        answers[i] = expression.holds(values, {name: _rows_of(table, i) for name, table in tables.items()})
    return answers


def matching_ids(store: Store, where: Predicate | str) -> frozenset[str]:
    """Return the ids of the learners that meet a condition.

    Raises:
        InvalidValue: none does, or the condition is not acceptable.
    """
    found = frozenset(store.learners[i].id for i in np.flatnonzero(matching(store, where)))
    if not found:
        asked = "the given function" if callable(where) else repr(where)
        raise InvalidValue(f"{store.place}: none of its {len(store.learners)} learners meets {asked}. Ask for less.")
    return found


def _num_finished(history: Any) -> int:
    return int((~history.episodes.is_cut).sum())


def _history_rows(store: Store) -> dict[str, np.ndarray]:
    histories = store.histories
    finished = store.episodes.history[~store.episodes.is_cut]
    return {
        "learner": histories.learner,
        "stream": histories.stream,
        "num_steps": histories.num_steps,
        "num_episodes": np.bincount(finished, minlength=len(histories)),
    }


def _episode_rows(store: Store) -> dict[str, np.ndarray]:
    episodes, histories = store.episodes, store.histories
    columns: dict[str, Int64[np.ndarray, " episodes"] | np.ndarray] = {
        "learner": histories.learner[episodes.history],
        "stream": histories.stream[episodes.history],
        "first_step": episodes.first_step,
        "length": episodes.length,
        "return": episodes.return_,
        "terminated": episodes.terminated,
        "truncated": episodes.truncated,
        "seed": episodes.seed,
    }
    is_finished = ~episodes.is_cut
    return {name: column[is_finished] for name, column in columns.items()}


_ROWS: Mapping[str, Callable[[Store], dict[str, np.ndarray]]] = {"history": _history_rows, "episode": _episode_rows}


def _rows_of(table: Mapping[str, np.ndarray], learner: int) -> dict[str, np.ndarray]:
    """Return the rows of one learner; they lie together, for histories are sorted by learner."""
    first, last = np.searchsorted(table["learner"], [learner, learner + 1])
    return {name: column[first:last] for name, column in table.items()}
