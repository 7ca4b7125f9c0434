"""One learner, and the learners of one task: curves, updates and settings."""

from __future__ import annotations

import json
import re
import shlex
from typing import Literal

import numpy as np
from jaxtyping import Float
from pydantic import JsonValue

from historystore.curves import MAX_BINS, Curve, finite_or_none, learning_curve
from historystore.documents import LearnerRow, Provenance, canonical_json
from historystore.errors import InvalidValue
from historystore.resumption import checkpoint_step
from historystore.returns import learner_final_returns
from historystore.store import Learner, Store
from historystore.summary import Summary, curve_of, training_steps
from historystore.tasks import find

SHORT_BINS = 24
"""Bins of a curve that shares its line with other columns."""


class UpdateCurve(Summary):
    """One logged value over a learner's updates."""

    name: str
    first: float | None
    last: float | None
    binned: tuple[float | None, ...]
    """Means over equal runs of updates, in order."""


class LearnerLine(Summary):
    """One learner among others."""

    id: str
    algorithm: str
    seed: int | None
    status: Literal["complete", "partial", "failed"]
    num_steps: int
    num_episodes: int
    final_return: float | None
    curve: Curve | None


class AttemptLine(Summary):
    """One of the attempts that a learner's steps are from."""

    attempt: str
    first_step: int
    """Of each stream: where it took over from the one before it."""
    status: Literal["complete", "partial", "failed"]
    environment: str
    host: str
    started: str
    ended: str | None


class LearnerSummary(Summary):
    """One learner."""

    id: str
    status: Literal["complete", "partial", "failed"]
    error: str | None
    family: str
    env_args: dict[str, JsonValue]
    task: dict[str, JsonValue]
    algorithm: str
    policy: str
    seed: int | None
    hyperparameters: dict[str, JsonValue]
    num_streams: int
    planned_steps: int
    num_steps: int
    num_episodes: int
    num_updates: int
    final_return: float | None
    best_return: float | None
    random_return: float | None
    curve: Curve | None
    """Quartiles over the learner's histories."""
    updates: tuple[UpdateCurve, ...]
    provenance: Provenance
    attempt: str
    attempts: tuple[AttemptLine, ...]
    """The attempts that continue each other; the last one is `attempt`."""
    checkpoint: str | None
    checkpoint_step: int | None
    """The step of each stream from which the checkpoint's learner can go on; None for a model alone."""
    started: str
    ended: str | None
    digest: str


class TaskSummary(Summary):
    """One task of the store's family and its learners."""

    family: str
    task: dict[str, JsonValue]
    best_return: float | None
    random_return: float | None
    curve: Curve | None
    learners: tuple[LearnerLine, ...]


def parse_task(text: str) -> dict[str, JsonValue] | int:
    """Parse `goal=[3,4]`, several of those, a JSON object, or a task's index."""
    if re.fullmatch(r"\d+", text.strip()):
        return int(text)
    if text.lstrip().startswith("{"):
        return _json_object(text)
    task: dict[str, JsonValue] = {}
    position, decoder = 0, json.JSONDecoder()
    while position < len(text):
        key = re.compile(r"[\s,;]*(\w+)\s*=\s*").match(text, position)
        if key is None:
            raise _not_a_task(text)
        try:
            task[key[1]], position = decoder.raw_decode(text, key.end())
        except json.JSONDecodeError as error:
            raise _not_a_task(text) from error
    if not task:
        raise _not_a_task(text)
    return task


def learner_summary(store: Store, learner: Learner) -> LearnerSummary:
    """Summarise one learner; reads its updates, and none of its steps."""
    row, index = learner.row, learner.index
    return LearnerSummary(
        **row.spec.model_dump(exclude={"num_steps"}),
        id=learner.id,
        status=learner.status,
        error=row.error,
        planned_steps=row.spec.num_steps,
        num_steps=sum(history.num_steps for history in learner.histories),
        num_episodes=sum(len(history.episodes) for history in learner.histories),
        num_updates=row.num_updates,
        final_return=finite_or_none(learner_final_returns(store)[index : index + 1])[0],
        best_return=row.provenance.best_return,
        random_return=row.provenance.random_return,
        curve=_curve_over_histories(learner, steps=int(training_steps(store)[index]), max_bins=MAX_BINS),
        updates=_update_curves(learner),
        provenance=row.provenance,
        attempt=row.attempt,
        attempts=tuple(map(_attempt_line, learner.attempts())),
        checkpoint=row.checkpoint,
        checkpoint_step=None if row.checkpoint is None else checkpoint_step(store, row.checkpoint),
        started=row.started,
        ended=row.ended,
        digest=learner.digest,
    )


def task_summary(store: Store, task: dict[str, JsonValue] | int) -> TaskSummary:
    """Summarise a task, given whole, or by its index in its family: in the store's own tasks if that is unknown.

    Raises:
        InvalidValue: no learner of this store has that task.
    """
    tasks = _tasks(store)
    if isinstance(task, int):
        if task >= len(tasks):
            raise InvalidValue(f"{store.place}: no task {task}, expected 0 to {len(tasks) - 1}. Choose one of those.")
        task = tasks[task]
    wanted = canonical_json(task)
    is_member = np.array([canonical_json(learner.spec.task) == wanted for learner in store.learners], dtype=bool)
    if not is_member.any():
        known = shlex.quote(task_text(store.learners[0].spec.task)) if store.learners else None
        example = f" One that it has: --task {known}." if known else ""
        raise InvalidValue(f"{store.place}: no learner has the task {task_text(task)}.{example}")
    final, steps = finite_or_none(learner_final_returns(store)), training_steps(store)
    members = [(index, store.learners[index]) for index in np.flatnonzero(is_member).tolist()]
    origin = members[0][1].row.provenance
    return TaskSummary(
        family=store.document.family,
        task=task,
        best_return=origin.best_return,
        random_return=origin.random_return,
        curve=curve_of(store, is_member),
        learners=tuple(
            _learner_line(learner, final_return=final[index], steps=int(steps[index])) for index, learner in members
        ),
    )


def task_text(task: dict[str, JsonValue]) -> str:
    """Render a task the way `parse_task` reads it; as JSON where `key=value` would not be read back."""
    if not task or not all(re.fullmatch(r"\w+", key) for key in task):
        return canonical_json(task).decode()
    return " ".join(f"{key}={canonical_json(value).decode()}" for key, value in task.items())


def _tasks(store: Store) -> list[dict[str, JsonValue]]:
    args = store.learners[0].spec.env_args if store.learners else {}
    family = find(store.document.family, args)
    if family is not None and family.num_tasks:
        return family.tasks()
    distinct = {canonical_json(learner.spec.task): learner.spec.task for learner in store.learners}
    return [distinct[key] for key in sorted(distinct)]


def _learner_line(learner: Learner, *, final_return: float | None, steps: int) -> LearnerLine:
    return LearnerLine(
        id=learner.id,
        algorithm=learner.spec.algorithm,
        seed=learner.spec.seed,
        status=learner.status,
        num_steps=sum(history.num_steps for history in learner.histories),
        num_episodes=sum(len(history.episodes) for history in learner.histories),
        final_return=final_return,
        curve=_curve_over_histories(learner, steps=steps, max_bins=SHORT_BINS),
    )


def _attempt_line(row: LearnerRow) -> AttemptLine:
    return AttemptLine(
        attempt=row.attempt,
        first_step=0 if row.continues is None else row.continues.step,
        status=row.status,
        environment=row.provenance.environment,
        host=row.provenance.host,
        started=row.started,
        ended=row.ended,
    )


def _curve_over_histories(learner: Learner, *, steps: int, max_bins: int) -> Curve | None:
    """Return the quartiles over a learner's histories, of a training of so many steps over all of them."""
    num_streams, tables = len(learner.histories), [history.episodes for history in learner.histories]
    if not num_streams:
        return None
    finished = [np.flatnonzero(~table.is_cut) for table in tables]
    stops = [(table.first_step + table.length)[rows] for table, rows in zip(tables, finished, strict=True)]
    return learning_curve(
        member=np.repeat(np.arange(num_streams), [len(rows) for rows in finished]),
        position=np.minimum(np.concatenate(stops) * num_streams / max(steps, 1), 1.0),
        return_=np.concatenate([table.return_[rows] for table, rows in zip(tables, finished, strict=True)]),
        training_steps=np.full(num_streams, steps, dtype=np.int64),
        max_bins=max_bins,
    )


def _update_curves(learner: Learner) -> tuple[UpdateCurve, ...]:
    table = learner.updates()
    curves = []
    for name in table.column_names:
        column = table.column(name)
        if name in {"learner", "update", "step"} or not _is_number(column.type):
            continue
        values = column.cast("float64").to_numpy(zero_copy_only=False)
        if np.isfinite(values).any():
            curves.append(_update_curve(name, values))
    return tuple(curves)


def _is_number(kind: object) -> bool:
    return str(kind).startswith(("float", "double", "int", "uint"))


def _update_curve(name: str, values: Float[np.ndarray, " updates"]) -> UpdateCurve:
    finite = values[np.isfinite(values)]
    runs = np.array_split(values, min(SHORT_BINS, len(values)))
    means = np.array([run[np.isfinite(run)].mean() if np.isfinite(run).any() else np.nan for run in runs])
    return UpdateCurve(name=name, first=float(finite[0]), last=float(finite[-1]), binned=finite_or_none(means))


def _json_object(text: str) -> dict[str, JsonValue]:
    try:
        task = json.loads(text)
    except json.JSONDecodeError as error:
        raise _not_a_task(text) from error
    if not isinstance(task, dict):
        raise _not_a_task(text)
    return task


def _not_a_task(text: str) -> InvalidValue:
    return InvalidValue(
        f"--task: {text!r} is no task, expected its parameters, like 'goal=[3,4]', or its index. "
        "hist inspect STORE names one."
    )
