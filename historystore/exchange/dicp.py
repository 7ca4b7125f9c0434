"""The layout of DICP (jaehyeon-son/dicp): one HDF5 file, a group a task, steps by streams, no attributes.

Group ``"<i>"`` holds ``states``, ``actions``, ``rewards``, ``next_states`` and ``dones``, all (steps, streams, ...); in
int32 for its grid worlds, in float32 for Meta-World. Its recorder takes ``next_states`` after the automatic reset, so
at an episode's end they are the next episode's first observations. The file is called
``history_<environment>_<algorithm>_alg-seed<n>.hdf5``, and the learner of group i has the seed n + i.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from gymnasium import spaces

from historystore.documents import LearnerSpec
from historystore.errors import InvalidValue
from historystore.exchange.groups import check_datasets, group_names, opened, provenance_of_file
from historystore.exchange.protocol import (
    NEXT_IS_KNOWN,
    Block,
    Exporter,
    ForeignLearner,
    ForeignStore,
    Importer,
    Moved,
)
from historystore.exchange.spans import SPAN_STEPS, TaskGroup, group_notes, iter_spans, only_field, stacked, task_groups
from historystore.store import Store

ARRAYS = ("states", "actions", "rewards", "next_states", "dones")
TRUE_NEXT_STATES = "historystore-true-next-states"
"""Attribute of the files written here: at episodes' ends, too, next_states are what the step led to."""
_NAME = re.compile(r"history_(?P<family>.+)_(?P<algorithm>[^_]+)_alg-seed(?P<seed>\d+)")


def write_dicp(store: Store, place: Path) -> Iterator[Moved]:
    """Write the complete learners, a group a task; a task's streams are those of all its learners.

    Raises:
        InvalidValue: an integer does not fit in int32, or no learner is complete.
    """
    groups = task_groups(store)
    fields = {name: only_field(store, name, layout="DICP") for name in ("observation", "action")}
    with h5py.File(place, "w") as file:
        file.attrs[TRUE_NEXT_STATES] = True
        for number, group in enumerate(groups):
            yield from _iter_group(file.create_group(str(number)), group, fields)
    yield Moved(notes=group_notes(store, groups))


def read_dicp(source: Path) -> ForeignStore:
    """Read a file in this layout: a learner a group."""
    with opened(source) as file:
        names = group_names(file, source)
        for name in names:
            check_datasets(file[name], ARRAYS, source)
        observation_space = _box([file[name]["states"] for name in names])
        action_space = _action_space([file[name]["actions"] for name in names])
        total_steps = sum(file[name]["rewards"].size for name in names)
    match = _NAME.fullmatch(source.stem)
    notes = (
        () if match else (f"{source.name} says neither environment, algorithm nor seed: it is not named as DICP does.",)
    )
    return ForeignStore(
        family=match["family"] if match else source.stem,
        observation_space=observation_space,
        action_space=action_space,
        total_steps=total_steps,
        learners=_iter_learners(source, names, match),
        notes=notes,
    )


EXPORTER = Exporter(
    write=write_dicp,
    lost=(
        "learners: everything but the order of their tasks; ids, tasks, seeds, hyperparameters, updates, provenance",
        "learners that are not complete, and steps beyond the shortest history of a task",
        "whether an episode was terminated or truncated; seeds and optional step fields",
        "numbers beyond int32 (refused) and float32 (rounded)",
        "optimal_actions, which that project's DPT loader needs, are not made up",
        "next_states are the true ones at an episode's end, too, unlike those of its own recorder",
    ),
)
IMPORTER = Importer(
    read=read_dicp,
    lost=(
        "what an episode's last step led to is not in the file, its next_states are the next episode's beginning; "
        f"{NEXT_IS_KNOWN} is false there, and they stand in",
        "whether an episode was terminated or truncated: every done counts as truncated",
        "spaces: bounds and the number of actions are the smallest that hold what is in the file",
        "tasks: a learner's task is the number of its group, what that means is not in the file",
        "hyperparameters, policy and updates; optimal_actions, no part of what the learner lived, are left out",
    ),
)


def _iter_group(target: Any, group: TaskGroup, fields: dict[str, str]) -> Iterator[Moved]:
    """Write one task, a span of all its histories at a time."""
    shape = (group.num_steps, len(group.histories))
    rewards_dtype = np.dtype(np.int32 if _are_rewards_whole(group) else np.float32)
    for start, stop in iter_spans(group):
        span = {name: stacked(group.histories, start, stop, field=field) for name, field in fields.items()}
        flags = [stacked(group.histories, start, stop, field=name) for name in ("terminated", "truncated")]
        following = [history.next_observations(start, stop)[fields["observation"]] for history in group.histories]
        columns = {
            "states": _narrow(span["observation"], "observation"),
            "actions": _narrow(span["action"], "action"),
            "rewards": stacked(group.histories, start, stop, field="reward").astype(rewards_dtype),
            "next_states": _narrow(np.stack(following), "observation"),
            "dones": flags[0] | flags[1],
        }
        for name, column in columns.items():
            rows = np.swapaxes(column, 0, 1)  # (streams, steps, ...) -> (steps, streams, ...)
            dataset = target.require_dataset(name, (*shape, *rows.shape[2:]), rows.dtype)
            dataset[start:stop] = rows
        yield Moved(num_steps=columns["rewards"].size)
    yield Moved(num_learners=len(group.learners))


def _are_rewards_whole(group: TaskGroup) -> bool:
    """Whether the layout's integers hold every reward."""
    spans = (stacked(group.histories, start, stop, field="reward") for start, stop in iter_spans(group))
    with np.errstate(invalid="ignore"):
        return all(bool((span.astype(np.int32) == span).all()) for span in spans)


def _narrow(column: np.ndarray, what: str) -> np.ndarray:
    """Return integers as int32, never wrapped, and floats as float32."""
    if column.dtype.kind == "f":
        return column.astype(np.float32)
    narrow = column.astype(np.int32)
    if not np.array_equal(narrow, column):
        raise InvalidValue(
            f"{what}: the DICP layout holds int32, got {column.min()} to {column.max()}. Export to parquet or minari."
        )
    return narrow


def _iter_learners(source: Path, names: list[str], match: re.Match[str] | None) -> Iterator[ForeignLearner]:
    with opened(source) as file:
        is_true = bool(file.attrs.get(TRUE_NEXT_STATES, False))
        for name in names:
            num_steps, num_streams = file[name]["rewards"].shape
            yield ForeignLearner(
                spec=LearnerSpec(
                    family=match["family"] if match else source.stem,
                    task={"group": int(name) if name.isdecimal() else name},
                    algorithm=match["algorithm"] if match else "unknown",
                    policy="unknown",
                    num_streams=num_streams,
                    num_steps=num_streams * num_steps,
                    seed=int(match["seed"]) + int(name) if match and name.isdecimal() else None,
                ),
                provenance=provenance_of_file(source, engine="import:dicp", environment=""),
                blocks=_iter_blocks(file[name], is_true=is_true),
            )


def _iter_blocks(group: Any, *, is_true: bool) -> Iterator[Block]:
    for rows in _row_slices(group["rewards"]):
        done = group["dones"][rows].astype(bool)
        is_known = {} if is_true else {NEXT_IS_KNOWN: ~done}
        yield Block(
            steps={
                "observation": group["states"][rows],
                "action": group["actions"][rows],
                "reward": group["rewards"][rows],
                "terminated": np.zeros_like(done),
                "truncated": done,
                **is_known,
            },
            following={"observation": group["next_states"][rows]},
        )


def _row_slices(dataset: Any) -> Iterator[slice]:
    num_steps, num_streams = dataset.shape[:2]
    length = max(SPAN_STEPS // num_streams, 1)
    for start in range(0, num_steps, length):
        yield slice(start, min(start + length, num_steps))


def _box(datasets: list[Any]) -> spaces.Box:
    """Return the space of what arrays hold: within the bounds seen for integers, without bounds for floats."""
    dtype, shape = datasets[0].dtype, datasets[0].shape[2:]
    if dtype.kind == "f":
        return spaces.Box(-np.inf, np.inf, shape=shape, dtype=dtype.type)
    bounds = [_bounds(dataset[rows]) for dataset in datasets for rows in _row_slices(dataset)]
    low = np.min([low for low, _ in bounds], axis=0).astype(dtype)
    high = np.max([high for _, high in bounds], axis=0).astype(dtype)
    return spaces.Box(low, high, shape=shape, dtype=dtype.type)


def _bounds(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(rows.min((0, 1))), np.asarray(rows.max((0, 1)))  # (steps, streams, ...) -> (...)


def _action_space(datasets: list[Any]) -> spaces.Space[Any]:
    """Return the space of actions: as many as the largest one says, where they are numbered."""
    box = _box(datasets)
    is_numbered = datasets[0].dtype.kind in "iu" and box.shape == () and box.low >= 0
    return spaces.Discrete(int(box.high) + 1) if is_numbered else box
