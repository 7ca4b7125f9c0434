"""What a distilled agent is held against: its source at the same number of environment steps, the best, chance.

They are taken from the stores when a training begins and travel with the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.numpy import load, save

from historystore.documents import canonical_json, parse_json
from historystore.errors import DamagedData
from historystore.files import replace_file
from historystore.splits import Task
from historystore.store import Store
from historystore.tasks import Family
from historystore.windows import tasks_of

MAX_POINTS = 1000
"""Points of a source curve: the 1000 episodes over which the paper evaluates."""

LAST_EPISODES = 10
"""Episodes of a history that say how well its learner ended."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class References:
    """Curves and bounds of every task of a run; NaN where nothing is known.

    Point `i` of a source curve is the mean return, over a task's learners and their streams, of the episode that was
    under way when the learner had lived `(i + 1) * steps_per_point` environment steps over all its streams.
    """

    tasks: tuple[Task, ...]
    steps_per_point: int
    source_returns: Float[np.ndarray, "tasks points"]
    source_last: Float[np.ndarray, tasks]
    """Mean return of the last ten episodes of each history: where the source ended."""
    best: Float[np.ndarray, tasks]
    random: Float[np.ndarray, tasks]

    def rows(self, tasks: Sequence[Task]) -> list[int]:
        """Return the rows of some tasks."""
        row = {canonical_json(task): i for i, task in enumerate(self.tasks)}
        return [row[canonical_json(task)] for task in tasks]

    def source_at(
        self, tasks: Sequence[Task], env_steps: Float[np.ndarray, episodes]
    ) -> Float[np.ndarray, "tasks episodes"]:
        """Return the source's mean return on each task after so many environment steps, NaN where it stopped before."""
        point = np.ceil(env_steps / self.steps_per_point).astype(int) - 1
        num_points = self.source_returns.shape[1]
        returns = self.source_returns[self.rows(tasks)][:, np.clip(point, 0, max(num_points - 1, 0))]
        return np.where(point < num_points, returns, np.nan)

    def write(self, path: Path) -> None:
        """Write them as a safetensors file."""
        names = ("source_returns", "source_last", "best", "random")
        tensors = {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in names}
        metadata = {"tasks": canonical_json(list(self.tasks)).decode(), "steps_per_point": str(self.steps_per_point)}
        replace_file(path, save(tensors, metadata))

    @classmethod
    def read(cls, path: Path) -> References:
        """Read what `write` wrote; raises DamagedData."""
        try:
            data = path.read_bytes()
            tensors = load(data)
            header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")], where=str(path))["__metadata__"]
        except (OSError, SafetensorError, KeyError) as error:
            raise DamagedData(f"{path}: is missing or damaged, {error}. Train the run again.") from error
        tasks = tuple(parse_json(header["tasks"].encode(), where=str(path)))
        return cls(tasks=tasks, steps_per_point=int(header["steps_per_point"]), **tensors)


def references_of(stores: Sequence[Store], *, steps_per_point: int | None = None) -> References:
    """Take the curves of every task from stores; without `steps_per_point` it is the middle length of an episode."""
    tasks, episodes = tasks_of(stores), _episodes_of(stores)
    unit = steps_per_point or max(1, int(np.median(episodes.length)) if len(episodes.length) else 1)
    last = episodes.places_left < LAST_EPISODES
    best, random = _bounds_of(stores, len(tasks))
    return References(
        tasks=tuple(tasks),
        steps_per_point=unit,
        source_returns=_curves(episodes, num_tasks=len(tasks), unit=unit),
        source_last=_means(episodes.task[last], episodes.return_[last], len(tasks)),
        best=best,
        random=random,
    )


def references_of_family(family: Family, tasks: Sequence[Task]) -> References:
    """Take the bounds of tasks that no store holds from their family; there is no source on them."""
    return References(
        tasks=tuple(tasks),
        steps_per_point=1,
        source_returns=np.full((len(tasks), 1), np.nan),
        source_last=np.full(len(tasks), np.nan),
        best=_known([family.best_return(task) for task in tasks]),
        random=_known([family.random_return(task) for task in tasks]),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Episodes:
    """All episodes of all stores: task, span in its learner's environment steps, and place from its history's end."""

    task: Int[np.ndarray, " episodes"]
    begin: Int[np.ndarray, " episodes"]
    end: Int[np.ndarray, " episodes"]
    length: Int[np.ndarray, " episodes"]
    return_: Float[np.ndarray, " episodes"]
    places_left: Int[np.ndarray, " episodes"]


def _episodes_of(stores: Sequence[Store]) -> _Episodes:
    columns = []
    row_of = {canonical_json(task): row for row, task in enumerate(tasks_of(stores))}
    for store in stores:
        episodes = store.episodes
        learner = np.asarray(store.histories.learner)[episodes.history]
        task = np.array([row_of[canonical_json(each.spec.task)] for each in store.learners], np.int64)
        streams = np.array([each.spec.num_streams for each in store.learners], np.int64)[learner]
        stop_of_history = np.searchsorted(episodes.history, episodes.history, side="right")
        begin, end = episodes.first_step * streams, (episodes.first_step + episodes.length) * streams
        places_left = stop_of_history - 1 - np.arange(len(learner))
        columns.append((task[learner], begin, end, episodes.length, episodes.return_, places_left))
    names = ("task", "begin", "end", "length", "return_", "places_left")
    return _Episodes(**dict(zip(names, map(np.concatenate, zip(*columns, strict=True)), strict=True)))


def _curves(episodes: _Episodes, *, num_tasks: int, unit: int) -> Float[np.ndarray, "tasks points"]:
    """Average, point by point, the episodes under way; each enters at one point and leaves at another."""
    sums, counts = np.zeros((2, num_tasks, MAX_POINTS + 1))
    first, stop = (np.minimum(steps // unit, MAX_POINTS) for steps in (episodes.begin, episodes.end))
    with np.errstate(invalid="ignore"):  # from an infinite return on, nothing is known
        for changes, weight in ((sums, episodes.return_), (counts, np.ones(len(first)))):
            np.add.at(changes, (episodes.task, first), weight)
            np.subtract.at(changes, (episodes.task, stop), weight)
        running = np.cumsum(sums, axis=1), np.round(np.cumsum(counts, axis=1))
    return _ratio(*running)[:, :-1]


def _bounds_of(
    stores: Sequence[Store], num_tasks: int
) -> tuple[Float[np.ndarray, " tasks"], Float[np.ndarray, " tasks"]]:
    """Return the best and random return of each task, as its learners were recorded with."""
    row_of = {canonical_json(task): row for row, task in enumerate(tasks_of(stores))}
    best, random = np.full((2, num_tasks), np.nan)
    for learner in (learner for store in stores for learner in store.learners):
        row, provenance = row_of[canonical_json(learner.spec.task)], learner.row.provenance
        best[row], random[row] = _known([provenance.best_return, provenance.random_return])
    return best, random


def _known(values: Sequence[float | None]) -> Float[np.ndarray, " values"]:
    """Return numbers, NaN where one is not known."""
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _means(row: Int[np.ndarray, " values"], value: Float[np.ndarray, " values"], num_rows: int) -> np.ndarray:
    return _ratio(np.bincount(row, value, num_rows), np.bincount(row, minlength=num_rows))


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return ratio
