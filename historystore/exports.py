"""A store's learners, episodes and updates as Arrow tables; `.to_pandas()` makes them data frames."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from historystore.errors import InvalidValue
from historystore.shards.protocol import VALUES

if TYPE_CHECKING:
    from historystore.store import Store


def learners_table(store: Store) -> pa.Table:
    """Return one row a visible learner, by id; tasks, arguments and hyperparameters as JSON text."""
    rows = [learner.row for learner in store.learners]
    return pa.table(
        {
            "learner": pa.array([row.learner for row in rows], pa.string()),
            "status": pa.array([learner.status for learner in store.learners], pa.string()),
            "error": pa.array([row.error for row in rows], pa.string()),
            "family": pa.array([row.spec.family for row in rows], pa.string()),
            "env_args": pa.array([_text(row.spec.env_args) for row in rows], pa.string()),
            "task": pa.array([_text(row.spec.task) for row in rows], pa.string()),
            "algorithm": pa.array([row.spec.algorithm for row in rows], pa.string()),
            "policy": pa.array([row.spec.policy for row in rows], pa.string()),
            "hyperparameters": pa.array([_text(row.spec.hyperparameters) for row in rows], pa.string()),
            "seed": pa.array([row.spec.seed for row in rows], pa.int64()),
            "num_streams": pa.array([row.spec.num_streams for row in rows], pa.int64()),
            "num_steps": pa.array(
                [sum(h.num_steps for h in learner.histories) for learner in store.learners], pa.int64()
            ),
            "num_updates": pa.array([row.num_updates for row in rows], pa.int64()),
            "best_return": pa.array([row.provenance.best_return for row in rows], pa.float64()),
            "random_return": pa.array([row.provenance.random_return for row in rows], pa.float64()),
            "engine": pa.array([row.provenance.engine for row in rows], pa.string()),
            "attempt": pa.array([row.attempt for row in rows], pa.string()),
            "started": pa.array([row.started for row in rows], pa.string()),
            "ended": pa.array([row.ended for row in rows], pa.string()),
            "digest": pa.array([learner.digest for learner in store.learners], pa.string()),
        }
    )


def episodes_table(store: Store) -> pa.Table:
    """Return one row a visible episode, by learner, stream and first step."""
    episodes, histories = store.episodes, store.histories
    ids = pa.array([learner.id for learner in store.learners], pa.string())
    owner = pa.array(histories.learner[episodes.history], pa.int32())
    return pa.table(
        {
            "learner": pa.DictionaryArray.from_arrays(owner, ids),
            "stream": histories.stream[episodes.history],
            "history": episodes.history,
            "first_step": episodes.first_step,
            "length": episodes.length,
            "return": episodes.return_,
            "terminated": episodes.terminated,
            "truncated": episodes.truncated,
            "seed": pa.array(episodes.seed, mask=episodes.seed < 0),
        }
    )


def updates_table(store: Store, *, learner: str | None = None) -> pa.Table:
    """Return one row an update, by learner and update; a value that a learner did not log is null."""
    known = store.status_of()
    if learner is not None and learner not in known:
        raise InvalidValue(f"{store.place}: has no learner {learner!r}. Give the whole id of one of its {len(known)}.")
    chosen = [each for each in store.learners if learner in (None, each.id)]
    tables = []
    for each in chosen:
        columns = each.update_columns()
        ids = pa.array([each.id] * len(columns["update"]), pa.string())
        named = {_value_name(name): _nullable(column) for name, column in columns.items()}
        tables.append(pa.table({"learner": ids, **named}))
    return (
        pa.concat_tables(tables, promote_options="default")
        if tables
        else pa.table({"learner": pa.array([], pa.string())})
    )


def _value_name(column: str) -> str:
    return column[len(VALUES) :] if column.startswith(VALUES) and "/" in column[len(VALUES) :] else column


def _nullable(column: np.ndarray) -> pa.Array:
    return pa.array(column, mask=np.isnan(column)) if column.dtype.kind == "f" else pa.array(column)


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)
