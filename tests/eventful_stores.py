"""A store to which everything has happened: retries, continuations, losses; and all that is visible of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from store_samples import Life, add_updates, checkpoint, create, life, record

import historystore as hs
from historystore.documents import Continuation
from historystore.verify import verify

RETRIED, CONTINUED, UNFINISHED, SHORT, STEPLESS, FOREIGN, CHECKPOINTED, LONG = range(8)
"""The learners' seeds."""


def eventful_store(path: Path) -> hs.Store:
    """Record learners over many shards, most of them with more than one attempt."""
    create(path)
    begin_attempts(path)
    with hs.StoreWriter(hs.open(path, mode="a")) as writer:
        record(writer, life(seed=RETRIED), seals=(30,))
        record(writer, life(seed=UNFINISHED, num_steps=50), seals=(15,), finish=None)
        name = checkpoint(path)
        learner = record(writer, life(seed=CHECKPOINTED, num_streams=1), seals=(7,), finish=None)
        learner.finish(checkpoint=name)
        writer.begin(life(seed=STEPLESS).spec).finish(status="failed", error="ValueError: no")
        record(writer, without_log_prob(life(seed=FOREIGN)), seals=(11, 22))
        record(writer, life(seed=LONG, num_steps=200), seals=(50, 100, 150))
    return hs.open(path)


def begin_attempts(path: Path) -> None:
    """Begin attempts that others supersede or continue."""
    writer = hs.StoreWriter(hs.open(path, mode="a"))
    record(writer, life(seed=RETRIED), seals=(10, 20, 40), finish=None)
    writer.close()
    continued, short = life(seed=CONTINUED), life(seed=SHORT)
    for lived in (continued, short):
        writer = hs.StoreWriter(hs.open(path, mode="a"))
        first = writer.begin(lived.spec)
        for start, stop in ((0, 10), (10, 30), (30, 45)):
            lived.add(first, start, stop)
            writer.seal()
        first.add_update(step=20, values={"train/loss": 0.25}, learning_rate=0.5, wall_time_s=1.5)
        first.add_update(step=40, values={"train/loss": 0.125}, learning_rate=0.5, wall_time_s=2.5)
        writer.close()
        resume(path, lived, first.attempt, step=25, stop=60 if lived is continued else 32)


def resume(path: Path, lived: Life, attempt: str, *, step: int, stop: int) -> None:
    """Continue an attempt at a step; to the end, or not."""
    with hs.StoreWriter(hs.open(path, mode="a")) as writer:
        second = writer.begin(lived.spec, continues=Continuation(attempt=attempt, step=step))
        lived.add(second, step, step + 3)
        writer.seal()
        lived.add(second, step + 3, stop)
        second.add_update(step=stop, values={"train/loss": 0.75, "train/late": 1.0}, learning_rate=0.5, wall_time_s=3.0)
        if stop == len(lived.seeds):
            second.finish()


def without_log_prob(lived: Life) -> Life:
    """Return a life with fewer fields."""
    del lived.steps["log_prob"]
    return lived


def many_seals(path: Path, *, num_learners: int = 6) -> hs.Store:
    """Record a few learners at once, with a seal every few steps."""
    lives = [life(seed=seed) for seed in range(num_learners)]
    with hs.StoreWriter(create(path)) as writer:
        learners = [writer.begin(lived.spec) for lived in lives]
        for start in range(0, 60, 6):
            for lived, learner in zip(lives, learners, strict=True):
                lived.add(learner, start, start + 6)
            writer.seal()
        for learner in learners:
            add_updates(learner, 60)
            learner.finish()
    return hs.open(path)


def everything(store: hs.Store) -> dict[str, Any]:
    """Return all that is visible of each learner, in values that can be compared."""
    return {learner.id: _everything(learner) for learner in store.learners}


def _everything(learner: hs.Learner) -> dict[str, Any]:
    return {
        "row": learner.row.model_dump(),
        "status": learner.status,
        "digest": learner.digest,
        "updates": {name: bits(column) for name, column in sorted(learner.update_columns().items())},
        "histories": [_history(history) for history in learner.histories],
    }


def _history(history: hs.History) -> dict[str, Any]:
    episodes = history.episodes
    names = ("first_step", "length", "return_", "terminated", "truncated", "seed")
    return {
        "steps": {name: bits(column) for name, column in history.read().items()},
        "episodes": {name: bits(getattr(episodes, name)) for name in names},
        "following": {name: bits(column) for name, column in history.next_observations(0, len(history) - 1).items()},
    }


def bits(column: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    """Return what tells a column apart, to the last bit."""
    return column.dtype.str, column.shape, column.tobytes()


def problems_of(path: Path) -> list[str]:
    """Return what `hist verify` finds, without its notes."""
    return [str(problem) for problem in verify(path) if not problem.is_note]


def shards_of(path: Path) -> set[str]:
    """Return the names of the shards in a store's folder."""
    return {shard.name for shard in (path / "shards").iterdir() if not shard.name.startswith(".")}
