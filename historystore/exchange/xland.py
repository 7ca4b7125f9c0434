"""The layout of XLand-100B (dunnolab/xland-minigrid-datasets): one HDF5 file, a group a task, rows of histories.

Group ``"<i>"`` holds ``states`` (histories, steps, ...) and ``actions`` in uint8, ``rewards`` in float16 and ``dones``,
all (histories, steps), with gzip 6 and the attributes ``env-id``, ``benchmark-id`` and ``ruleset-id``. ``states`` are
what the policy saw before it acted; what an episode's last step led to is overwritten by the next one's beginning.
"""

from __future__ import annotations

import json
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

ENV, BENCHMARK, RULESET = "env-id", "benchmark-id", "ruleset-id"
CHUNK_STEPS = 4096
NUM_ACTIONS = 6
FAMILY = "xland-minigrid"


def write_xland(store: Store, place: Path) -> Iterator[Moved]:
    """Write the complete learners, a group a task; a task's histories are those of all its learners.

    Raises:
        InvalidValue: an observation or action is no whole number of 0 to 255, or no learner is complete.
    """
    groups = task_groups(store)
    fields = {name: only_field(store, name, layout="XLand") for name in ("observation", "action")}
    with h5py.File(place, "w") as file:
        for number, group in enumerate(groups):
            yield from _iter_group(file.create_group(str(number)), group, number, fields)
    yield Moved(notes=group_notes(store, groups))


def read_xland(source: Path) -> ForeignStore:
    """Read a file in this layout: a learner a group, with a stream a history."""
    with opened(source) as file:
        names = group_names(file, source)
        for name in names:
            check_datasets(file[name], ("states", "actions", "rewards", "dones"), source)
        shape = file[names[0]]["states"].shape[2:]
        tasks = [_task(file[name]) for name in names]
        total_steps = sum(file[name]["rewards"].size for name in names)
    is_xland = all(str(env).startswith(("XLand-", "MiniGrid-")) for env, *_ in tasks)
    if len(set(tasks)) < len(tasks):
        raise InvalidValue(f"{source}: several groups have the same {RULESET}. Give a file with a group a task.")
    return ForeignStore(
        family=FAMILY,
        observation_space=spaces.Box(0, 255, shape=shape, dtype=np.uint8),
        action_space=spaces.Discrete(NUM_ACTIONS if is_xland else 256),
        total_steps=total_steps,
        learners=_iter_learners(source, names, is_xland=is_xland),
        notes=() if is_xland else (UNSPLIT_DONES,),
    )


UNSPLIT_DONES = "The environment is none of XLand-MiniGrid's, so that every done counts as truncated."
EXPORTER = Exporter(
    write=write_xland,
    lost=(
        "learners: all but their task; neither ids, seeds, hyperparameters, updates nor provenance",
        "learners that are not complete, and steps beyond the shortest history of a task",
        "what the last step of an episode and of a history led to",
        "whether an episode was terminated or truncated; seeds and optional step fields",
        "rewards beyond float16 (rounded); observations and actions beyond 0 to 255 (refused)",
        "expert_actions, which that project's DPT loader needs, are not made up",
    ),
)
IMPORTER = Importer(
    read=read_xland,
    lost=(
        f"what the last step of an episode or history led to is not in the file; {NEXT_IS_KNOWN} is false there, and "
        "the next row (at the end: the same one) stands in",
        "a done with a reward counts as terminated, one without as truncated, as XLand-MiniGrid gives rewards",
        "seeds, hyperparameters and updates are not in the file; observations stay as it packs them",
        "expert_actions are left out: they are no part of what the learner lived",
    ),
)


def _iter_group(target: Any, group: TaskGroup, number: int, fields: dict[str, str]) -> Iterator[Moved]:
    """Write one task, a span of all its histories at a time."""
    spec, provenance = group.learners[0].spec, group.learners[0].row.provenance
    target.attrs.update({ENV: provenance.environment, BENCHMARK: spec.family, RULESET: number})
    target.attrs["task"] = json.dumps(dict(group.task), sort_keys=True)
    shape = (len(group.histories), group.num_steps)
    num_rounded = 0
    for start, stop in iter_spans(group):
        flags = [stacked(group.histories, start, stop, field=name) for name in ("terminated", "truncated")]
        rewards = stacked(group.histories, start, stop, field="reward")
        with np.errstate(over="ignore"):
            halves = rewards.astype(np.float16)
        num_rounded += int((halves.astype(rewards.dtype) != rewards).sum())
        columns = {
            "states": _bytes(stacked(group.histories, start, stop, field=fields["observation"]), "observation"),
            "actions": _bytes(stacked(group.histories, start, stop, field=fields["action"]), "action"),
            "rewards": halves,
            "dones": flags[0] | flags[1],
        }
        for name, column in columns.items():
            _dataset(target, name, (*shape, *column.shape[2:]), column.dtype)[:, start:stop] = column
        yield Moved(num_steps=rewards.size)
    yield Moved(num_learners=len(group.learners), notes=_rounding_note(number, num_rounded))


def _dataset(group: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """Return a dataset of the layout, made when it is first asked for."""
    if name not in group:
        chunks = (1, min(CHUNK_STEPS, shape[1]), *shape[2:])
        group.create_dataset(name, shape=shape, dtype=dtype, chunks=chunks, compression="gzip", compression_opts=6)
    return group[name]


def _bytes(column: np.ndarray, what: str) -> np.ndarray:
    """Return values as uint8, never wrapped."""
    narrow = column.astype(np.uint8)
    if column.dtype.kind not in "biu" or not np.array_equal(narrow, column):
        raise InvalidValue(
            f"{what}: the XLand layout holds whole numbers of 0 to 255, got {column.dtype} from {column.min()} to "
            f"{column.max()}. Export to parquet or minari."
        )
    return narrow


def _rounding_note(number: int, num_rounded: int) -> tuple[str, ...]:
    return (f"group {number}: {num_rounded:,} rewards were rounded to float16.",) if num_rounded else ()


def _task(group: Any) -> tuple[str, str, int]:
    return str(group.attrs.get(ENV, "")), str(group.attrs.get(BENCHMARK, "")), int(group.attrs.get(RULESET, -1))


def _iter_learners(source: Path, names: list[str], *, is_xland: bool) -> Iterator[ForeignLearner]:
    with opened(source) as file:
        for name in names:
            group = file[name]
            env, benchmark, ruleset = _task(group)
            num_streams, num_steps = group["rewards"].shape
            yield ForeignLearner(
                spec=LearnerSpec(
                    family=FAMILY,
                    env_args={ENV: env, BENCHMARK: benchmark},
                    task={RULESET: ruleset},
                    algorithm="PPO",
                    policy="ActorCriticRNN",
                    num_streams=num_streams,
                    num_steps=num_streams * num_steps,
                ),
                provenance=provenance_of_file(source, engine="import:xland", environment=env),
                blocks=_iter_blocks(group, is_xland=is_xland),
            )


def _iter_blocks(group: Any, *, is_xland: bool) -> Iterator[Block]:
    num_streams, num_steps = group["rewards"].shape
    length = max(SPAN_STEPS // num_streams // CHUNK_STEPS, 1) * CHUNK_STEPS
    for start in range(0, num_steps, length):
        stop = min(start + length, num_steps)
        states = _by_step(group["states"][:, start : stop + 1])
        rewards, done = _by_step(group["rewards"][:, start:stop]), _by_step(group["dones"][:, start:stop]).astype(bool)
        terminated = done & (rewards > 0) & is_xland
        following = states[1:] if stop < num_steps else np.concatenate([states[1:], states[-1:]])
        is_known = ~done
        is_known[num_steps - 1 - start :] = False
        yield Block(
            steps={
                "observation": states[: stop - start],
                "action": _by_step(group["actions"][:, start:stop]),
                "reward": rewards,
                "terminated": terminated,
                "truncated": done & ~terminated,
                NEXT_IS_KNOWN: is_known,
            },
            following={"observation": following},
        )


def _by_step(rows: np.ndarray) -> np.ndarray:
    return np.swapaxes(rows, 0, 1)  # (histories, steps, ...) -> (steps, histories, ...)
