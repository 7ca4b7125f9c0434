"""Living through what a store holds of a learner again: to check its digest, or to continue it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from historystore.buffers import RunningEpisodes
from historystore.digest import Json, LearnerHasher
from historystore.errors import DamagedData
from historystore.fields import Field
from historystore.histories import History
from historystore.learners import Learner
from historystore.shards.protocol import VALUES, Columns

READ_STEPS = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A learner as it stood at a step."""

    fields: tuple[Field, ...]
    num_steps: tuple[int, ...]
    num_updates: int
    running: RunningEpisodes
    next_observation: dict[int, Columns]
    """Of each stream in the middle of an episode: observation field -> (1, ...), or (0, ...) where it is not known."""
    hasher: LearnerHasher

    def digest(self) -> str:
        """Return the learner's digest."""
        return self.hasher.hexdigest(self._open_episodes())

    def document(self) -> Json:
        """Return what the digest is taken over."""
        return self.hasher.document(self._open_episodes())

    def _open_episodes(self) -> Iterator[tuple[int, Int64[np.ndarray, "1 3"], Columns]]:
        for stream, observation in self.next_observation.items():
            first = int(self.running.first_step[stream])
            key = np.array([[first, self.num_steps[stream] - first, self.running.seed[stream]]], np.int64)
            yield stream, key, observation


def learner_digest(learner: Learner) -> str:
    """Read everything visible of a learner and return its digest, taken anew.

    Raises:
        DamagedData: something of it cannot be read.
    """
    return replay(learner).digest()


def replay(learner: Learner, *, stop: int | None = None) -> Replay:
    """Live through a learner's visible histories, each up to a step.

    Raises:
        DamagedData: something of it cannot be read.
    """
    histories, num_streams = learner.histories, learner.spec.num_streams
    fields = tuple(histories[0].field(name) for name in histories[0].fields) if histories else ()
    hasher = LearnerHasher(learner.id, num_streams=num_streams)
    hasher.define(fields)
    running = RunningEpisodes.starting(num_streams=num_streams)
    num_steps = [0] * num_streams
    observations = {}
    for history in histories:
        limit = history.num_steps if stop is None else min(stop, history.num_steps)
        num_steps[history.stream] = limit
        _add_steps(hasher, history, limit)
        first_step = _add_episodes(hasher, history, limit)
        if _resume_episode(running, history, first_step, limit):
            observations[history.stream] = _observation_behind(history, limit)
    num_updates = _add_updates(hasher, learner, stop)
    return Replay(
        fields=fields,
        num_steps=tuple(num_steps),
        num_updates=num_updates,
        running=running,
        next_observation=observations,
        hasher=hasher,
    )


def _add_steps(hasher: LearnerHasher, history: History, limit: int) -> None:
    for start in range(0, limit, READ_STEPS):
        hasher.add_steps(history.stream, history.read(start, min(start + READ_STEPS, limit)))


def _add_episodes(hasher: LearnerHasher, history: History, limit: int) -> int:
    """Add the episodes that end by a step; return where the one after them begins."""
    episodes = history.episodes
    keys = np.stack([episodes.first_step, episodes.length, episodes.seed], axis=1)  # (episodes, 3)
    keys = keys[~episodes.is_cut & (keys[:, 0] + keys[:, 1] <= limit)]
    steps, ends = history.ends()
    last = keys[:, 0] + keys[:, 1] - 1
    missing = np.setdiff1d(last, steps)
    if missing.size:
        raise DamagedData(f"{history}: the observation behind step {missing[0]} is not in its shard. Run hist verify.")
    at = np.searchsorted(steps, last)
    hasher.add_episodes(history.stream, keys, {name: column[at] for name, column in ends.items()})
    return int(last[-1]) + 1 if last.size else 0


def _resume_episode(running: RunningEpisodes, history: History, first_step: int, limit: int) -> bool:
    """Note the episode that a stream is in at a step; return whether it is in the middle of one."""
    stream, episodes = history.stream, history.episodes
    seeds = episodes.seed[episodes.first_step == first_step]
    running.first_step[stream] = first_step
    if first_step == limit:
        return False
    running.seed[stream] = seeds[0] if seeds.size else -1
    running.return_[stream] = history.read(first_step, limit, fields=["reward"])["reward"].sum(dtype=np.float64)
    return True


def _observation_behind(history: History, limit: int) -> Columns:
    steps, ends = history.ends()
    found = steps == limit - 1
    if limit < history.num_steps and not found.any():
        return history.read(limit, limit + 1, fields=list(ends))
    return {name: column[found] for name, column in ends.items()}


def _add_updates(hasher: LearnerHasher, learner: Learner, stop: int | None) -> int:
    updates = learner.update_columns()
    values = {name[len(VALUES) :]: column for name, column in updates.items() if name.startswith(VALUES)}
    rows = np.arange(len(updates["update"])) if stop is None else np.flatnonzero(updates["step"] <= stop)
    for row in rows.tolist():
        hasher.add_update(
            int(updates["update"][row]),
            step=int(updates["step"][row]),
            learning_rate=float(updates["learning_rate"][row]),
            values={name: float(column[row]) for name, column in values.items()},
        )
    return len(rows)
