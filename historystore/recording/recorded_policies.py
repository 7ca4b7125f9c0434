"""Trained models that act in a recording: which checkpoint of another store in which task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from pydantic import JsonValue

from historystore.documents import Document, Sha256, canonical_json
from historystore.errors import InvalidValue, SpaceMismatch
from historystore.learner_summary import task_text
from historystore.returns import learner_final_returns
from historystore.store import Store
from historystore.store import open as open_store
from historystore.tasks import Family
from historystore.tasks.protocol import Task

POLICY_FROM = "policy_from"
"""The hyperparameter: a store for the user, the name of the checkpoint that acts in specifications."""
RECORDED = "Recorded"
"""What specifications call such a policy."""
_MOST_TASKS_SHOWN = 3


class RecordedPolicies(Document):
    """The models that act, resolved once a recording."""

    store: str
    """Where another process finds them."""
    checkpoints: dict[str, Sha256]
    """By the canonical JSON of the task."""

    def checkpoint(self, task: Mapping[str, JsonValue]) -> str:
        """Return the name of the checkpoint that acts in a task."""
        return self.checkpoints[_key(task)]


def recorded_policies(path: str, *, family: Family, tasks: Iterable[Task]) -> RecordedPolicies:
    """Find the trained model for each task in the store at `path`.

    A learner counts when it is complete, has a checkpoint, and learned with the same arguments of the family; of
    several for one task the one of the highest final return, of equals the first by id.

    Raises:
        StoreNotFound: there is no store.
        SpaceMismatch: it is of another family.
        InvalidValue: it has no such learner for one of the tasks, or is a single shard.
    """
    store = open_store(path)
    if store.is_shard:
        raise InvalidValue(
            f"--set {POLICY_FROM}: {store.place} is a single shard, which holds no models, expected a store. "
            "Give the store's folder."
        )
    if store.document.family != family.name:
        raise SpaceMismatch(
            f"--set {POLICY_FROM}: {store.place} is a store of the family {store.document.family!r}, expected "
            f"{family.name!r}. Give one that was recorded with --env {family.name}."
        )
    trained = _best_checkpoints(store, family.args)
    wanted = {_key(task): task for task in tasks}
    missing = [task_text(task) for key, task in wanted.items() if key not in trained]
    if missing:
        more = ", ..." if len(missing) > _MOST_TASKS_SHOWN else ""
        raise InvalidValue(
            f"--set {POLICY_FROM}: {store.place} has no trained model for {len(missing):,} of {len(wanted):,} tasks "
            f"({', '.join(missing[:_MOST_TASKS_SHOWN])}{more}), expected a complete learner with a checkpoint and the "
            "same --env-arg for each. Record such learners with --checkpoints final, or leave these seeds out."
        )
    return RecordedPolicies(store=store.place.resolved(), checkpoints={key: trained[key] for key in wanted})


def _best_checkpoints(store: Store, args: Mapping[str, Any]) -> dict[str, str]:
    """Return the checkpoint of the best learner with these arguments of the family, by task."""
    returns = np.nan_to_num(learner_final_returns(store), nan=-np.inf).tolist()
    best: dict[str, str] = {}
    for learner in sorted(store.learners, key=lambda learner: (-returns[learner.index], learner.id)):
        name = learner.row.checkpoint
        if name is not None and learner.status == "complete" and learner.spec.env_args == args:
            best.setdefault(_key(learner.spec.task), name)
    return best


def _key(task: Mapping[str, JsonValue]) -> str:
    return canonical_json(task).decode()
