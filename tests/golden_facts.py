"""What a golden store must say for ever, as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

import historystore as hs


def facts(store: hs.Store) -> dict[str, Any]:
    """Return digests, counts and some values of everything that shows."""
    return {
        "family": store.document.family,
        "digest": store.digest,
        "num_histories": store.num_histories,
        "num_episodes": store.num_episodes,
        "num_steps": store.num_steps,
        "fields": [[field.name, field.dtype, list(field.shape)] for field in store.fields],
        "learners": [_learner(learner) for learner in store.learners],
    }


def _learner(learner: hs.Learner) -> dict[str, Any]:
    updates = learner.updates().drop_columns(["learner"]).to_pylist()
    return {
        "id": learner.id,
        "digest": learner.digest,
        "status": learner.status,
        "error": learner.row.error,
        "task": learner.spec.task,
        "continues_at": None if learner.row.continues is None else learner.row.continues.step,
        "checkpoint": learner.row.checkpoint,
        "num_updates": len(updates),
        "last_update": updates[-1] if updates else None,
        "histories": [_history(history) for history in learner.histories],
    }


def _history(history: hs.History) -> dict[str, Any]:
    last, episodes = history.num_steps - 1, history.episodes
    return {
        "num_steps": history.num_steps,
        "first": _plain(history.read(0, 1)),
        "last": _plain(history.read(last, last + 1)),
        "following": _plain(history.final_observation(last)),
        "episodes": np.stack([episodes.first_step, episodes.length, episodes.seed], axis=1).tolist(),
        "returns": episodes.return_.tolist(),
    }


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return values as JSON has them; packed ones in hexadecimal."""
    return {
        name: array.tolist() if array.dtype.kind != "O" else [value.hex() for value in array.flat]
        for name, array in values.items()
    }
