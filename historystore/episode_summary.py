"""One episode: its steps, and the picture that its family draws of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import Field, JsonValue

from historystore.errors import InvalidValue
from historystore.fields import unflatten
from historystore.store import History, Learner, Store
from historystore.summary import Summary
from historystore.tasks import find


class Step(Summary):
    """One transition, as recorded."""

    step: int
    values: dict[str, JsonValue]
    """Field name -> value."""


class EpisodeSummary(Summary):
    """One episode of one history."""

    learner: str
    family: str
    task: dict[str, JsonValue]
    num_streams: int
    stream: int
    episode: int
    num_episodes: int
    """Of this history."""
    first_step: int
    length: int
    return_: float = Field(serialization_alias="return")
    terminated: bool
    truncated: bool
    seed: int | None
    steps: tuple[Step, ...]
    final_observation: dict[str, JsonValue]
    """What the last step led to, by field name."""
    drawing: str | None
    """The episode as its family draws it; None for a family that is not ours."""


def episode_summary(store: Store, learner: Learner, *, episode: int, stream: int = 0) -> EpisodeSummary:
    """Read one episode; a negative number counts from the last one.

    Raises:
        InvalidValue: the learner has no such stream, or the stream no such episode.
    """
    history = _history(learner, stream)
    table = history.episodes
    if not -len(table) <= episode < len(table):
        expected = f"0 to {len(table) - 1}, or -1 for the last" if len(table) else "none"
        where = f"learner {learner.id[:12]}, stream {stream}"
        raise InvalidValue(f"{where}: no episode {episode}, expected {expected}. Choose one of those.")
    episode %= len(table)
    start, length = int(table.first_step[episode]), int(table.length[episode])
    columns = history.read(start, start + length)
    seed = int(table.seed[episode])
    return EpisodeSummary(
        learner=learner.id,
        family=store.document.family,
        task=learner.spec.task,
        num_streams=len(learner.histories),
        stream=stream,
        episode=episode,
        num_episodes=len(table),
        first_step=start,
        length=length,
        return_=float(table.return_[episode]),
        terminated=bool(table.terminated[episode]),
        truncated=bool(table.truncated[episode]),
        seed=None if seed < 0 else seed,
        steps=tuple(
            Step(step=start + row, values={name: _plain(column[row]) for name, column in columns.items()})
            for row in range(length)
        ),
        final_observation={
            name: _plain(value) for name, value in history.final_observation(start + length - 1).items()
        },
        drawing=_drawing(store, learner, columns),
    )


def _history(learner: Learner, stream: int) -> History:
    for history in learner.histories:
        if history.stream == stream:
            return history
    known = [history.stream for history in learner.histories]
    expected = f"{min(known)} to {max(known)}" if known else "none"
    raise InvalidValue(f"learner {learner.id[:12]}: no stream {stream}, expected {expected}. Choose one of those.")


def _drawing(store: Store, learner: Learner, columns: dict[str, np.ndarray]) -> str | None:
    family = find(store.document.family, learner.spec.env_args)
    if family is None:
        return None
    return family.draw_episode(
        learner.spec.task,
        unflatten("observation", store.observation_space, columns),
        unflatten("action", store.action_space, columns),
        columns["reward"],
    )


def _plain(value: np.ndarray | np.generic) -> JsonValue:
    """Return a JSON value, with None for what JSON has no number for."""
    result: JsonValue = _finite(value.tolist())
    return result


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
