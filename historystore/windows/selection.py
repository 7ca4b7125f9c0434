"""Which learners to draw windows from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from historystore.curves import is_within
from historystore.documents import canonical_json
from historystore.errors import InvalidValue
from historystore.learner_columns import Predicate, matching
from historystore.returns import learner_final_returns
from historystore.splits import Task
from historystore.store import Learner, Store


def tasks_of(stores: Sequence[Store]) -> list[Task]:
    """Return the tasks of some stores, each once, in the order of their JSON."""
    unique = {canonical_json(learner.spec.task): learner.spec.task for store in stores for learner in store.learners}
    return [unique[key] for key in sorted(unique)]


def selected_histories(
    stores: Sequence[Store],
    *,
    tasks: Sequence[Sequence[Task] | None] = (),
    min_progress: float | int | None = None,
    where: Predicate | str | None = None,
) -> Int64[np.ndarray, " chosen"]:
    """Return the histories, counted over all stores, of the learners that meet every condition.

    Args:
        stores: where to look.
        tasks: only learners of tasks that are in each of these; None stands for all tasks.
        min_progress: only learners whose last episodes returned at least this share of their task's best return
            (`learner_final_returns` and `is_within`: what `hist inspect` counts).
        where: only learners of which this function, or this expression (`historystore.learner_columns`), is true.

    Raises:
        InvalidValue: no learner is left; the message says how many each condition left. Or a learner's best return is
            not known.
    """
    learners = [learner for store in stores for learner in store.learners]
    left, story = np.arange(len(learners)), [f"{len(learners)} learners"]
    wanted = [{canonical_json(task) for task in each} for each in tasks if each is not None]
    if wanted:
        keys = set.intersection(*wanted)
        left = left[[canonical_json(learners[i].spec.task) in keys for i in left]]
        story.append(f"{len(left)} of the {len(keys)} tasks asked for")
    if where is not None:
        if callable(where):
            left = left[[bool(where(learners[i])) for i in left]]
        else:
            left = left[np.concatenate([matching(store, where) for store in stores])[left]]
        story.append(f"{len(left)} that meet {'the given function' if callable(where) else repr(where)}")
    if min_progress is not None:
        final = np.concatenate([learner_final_returns(store) for store in stores])[left]
        left = left[is_within(final, _best_returns([learners[i] for i in left]), share=min_progress)]
        story.append(f"{len(left)} with progress of at least {min_progress}")
    if not len(left):
        raise InvalidValue(f"windows: no learner is left: {', of those '.join(story)}. Ask for less, or record more.")
    first = np.cumsum([0, *(len(store.learners) for store in stores)]).tolist()
    learner_of = np.concatenate([a.histories.learner + b for a, b in zip(stores, first, strict=False)])
    return np.flatnonzero(np.isin(learner_of, left))


def _best_returns(learners: Sequence[Learner]) -> Float64[np.ndarray, " learners"]:
    bests = [learner.row.provenance.best_return for learner in learners]
    if None in bests:
        unknown = learners[bests.index(None)].id[:12]
        raise InvalidValue(
            f"windows: min_progress is a share of a task's best return, which {bests.count(None)} learners do not "
            f"know, {unknown} among them. Choose learners by a function of your own instead."
        )
    return np.array(bests, dtype=np.float64)
