"""Reading a store's histories in spans of bounded size, as exporters write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from historystore.documents import canonical_json
from historystore.errors import InvalidValue
from historystore.histories import History
from historystore.learners import Learner
from historystore.store import Store
from historystore.tables import EpisodeTable

SPAN_STEPS = 65536
"""Steps that an exporter holds in memory at a time, over all streams; or one episode, if that is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskGroup:
    """The complete learners of one task, as layouts with a group a task see them: only so many equal histories."""

    task: Mapping[str, object]
    learners: tuple[Learner, ...]
    histories: tuple[History, ...]
    num_steps: int
    """Of each history: those of the shortest."""

    @property
    def num_left_out(self) -> int:
        """Steps by which longer histories are cut."""
        return sum(history.num_steps for history in self.histories) - self.num_steps * len(self.histories)


def task_groups(store: Store) -> list[TaskGroup]:
    """Return a store's complete learners by task, tasks in the order of their values, and learners in that of seeds.

    Raises:
        InvalidValue: no learner is complete.
    """
    groups: dict[str, list[Learner]] = {}
    for learner in store.learners:
        if learner.status == "complete" and learner.histories:
            key = canonical_json([learner.spec.task, learner.spec.env_args]).decode()
            groups.setdefault(key, []).append(learner)
    if not groups:
        raise InvalidValue(f"{store.place}: no learner is complete. Record on, or export to parquet or minari.")
    return [_group(learners) for learners in sorted(groups.values(), key=lambda learners: _values(learners[0]))]


def group_notes(store: Store, groups: Sequence[TaskGroup]) -> tuple[str, ...]:
    """Return what a layout with a group a task leaves out of this store."""
    notes = []
    num_others = len(store.learners) - sum(len(group.learners) for group in groups)
    if num_others:
        notes.append(f"{num_others:,} learners that are not complete were left out.")
    num_left_out = sum(group.num_left_out for group in groups)
    if num_left_out:
        notes.append(f"{num_left_out:,} steps of histories longer than the shortest of their task were left out.")
    if len({(len(group.histories), group.num_steps) for group in groups}) > 1:
        notes.append(
            "Tasks differ in the number or length of their histories, which loaders of this layout expect not."
        )
    return tuple(notes)


def iter_spans(group: TaskGroup) -> Iterator[tuple[int, int]]:
    """Give the spans in which all histories of a group are read together."""
    length = max(SPAN_STEPS // len(group.histories), 1)
    for start in range(0, group.num_steps, length):
        yield start, min(start + length, group.num_steps)


def stacked(histories: Sequence[History], start: int, stop: int, *, field: str) -> np.ndarray:
    """Return a field's steps of several histories, (histories, steps, ...)."""
    return np.stack([history.read(start, stop, fields=[field])[field] for history in histories])


def iter_episodes(history: History) -> Iterator[EpisodeTable]:
    """Give a history's episodes, as many at a time as are read together."""
    stops = history.episodes.first_step + history.episodes.length
    first, offset = 0, int(history.store.episode_start[history.index])
    while first < len(stops):
        begin = int(stops[first - 1]) if first else 0
        stop = max(int(np.searchsorted(stops, begin + SPAN_STEPS, side="right")), first + 1)
        yield history.store.episodes.rows(offset + first, offset + stop)
        first = stop


def num_told(history: History) -> int:
    """Return how many of a history's steps are part of its episodes.

    All of them, but where a shard was lost in the middle of an episode: what its last step led to is then not known.
    """
    episodes = history.episodes
    return int(episodes.first_step[-1] + episodes.length[-1]) if len(episodes) else 0


def episode_of(history: History, start: int, stop: int) -> Int64[np.ndarray, " steps"]:
    """Return which of its history's episodes each step is part of; the next number where that is none of them."""
    stops = history.episodes.first_step + history.episodes.length
    return np.searchsorted(stops, np.arange(start, stop), side="right")


def only_field(store: Store, name: str, *, layout: str) -> str:
    """Return the name of a store's only field of observations or actions.

    Raises:
        InvalidValue: there are several, or their values have no fixed shape.
    """
    fields = [field for field in store.fields if field.name.partition("/")[0] == name]
    if len(fields) != 1 or fields[0].is_packed:
        raise InvalidValue(
            f"{store.place}: the {layout} layout holds one array of {name}s, got the fields "
            f"{', '.join(field.name for field in fields)}. Export to parquet or minari."
        )
    return fields[0].name


def _group(learners: list[Learner]) -> TaskGroup:
    learners = sorted(learners, key=lambda learner: (learner.spec.algorithm, learner.spec.seed or 0, learner.id))
    histories = tuple(history for learner in learners for history in learner.histories)
    num_steps = min(history.num_steps for history in histories)
    return TaskGroup(task=learners[0].spec.task, learners=tuple(learners), histories=histories, num_steps=num_steps)


def _values(learner: Learner) -> list[tuple[str, float, str]]:
    """Return a task as something to sort by: numbers by size, all else as text."""
    return [
        (key, float(item), "") if isinstance(item, (int, float)) else (key, 0.0, canonical_json(item).decode())
        for key, value in sorted(learner.spec.task.items())
        for item in (value if isinstance(value, list) else [value])
    ]
