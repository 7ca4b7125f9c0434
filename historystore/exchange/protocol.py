"""What a foreign format offers, and what an import or export tells on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from pydantic import BaseModel, ConfigDict

from historystore.documents import LearnerSpec, Provenance, Status
from historystore.learner_writer import OriginalAttempt
from historystore.parts import Update
from historystore.store import Store

NEXT_IS_KNOWN = "info/is_next_observation_known"
"""The step field of imported learners whose source does not say what some steps led to; false at those."""


class ExchangeReport(BaseModel):
    """What an import or export moved, and what it could not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    target: str
    format: str
    num_learners: int
    num_skipped: int = 0
    """Learners that the target has already."""
    num_steps: int
    lost: tuple[str, ...]
    """What the other format cannot hold, whatever is moved."""
    notes: tuple[str, ...] = ()
    """What turned up in what was moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was moved since the last one, and what there is to say about it."""

    num_steps: int = 0
    num_learners: int = 0
    num_skipped: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an import or export is, in steps over all streams."""

    num_steps: int
    total_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some consecutive steps of all streams of a learner."""

    steps: Mapping[str, np.ndarray]
    """Field -> (steps, streams, ...)."""
    following: Mapping[str, np.ndarray]
    """Observation field -> (steps, streams, ...): what each step led to, not the next episode's first observation."""
    seeds: np.ndarray | None = None
    """(steps, streams): of the episode that begins at a step, -1 elsewhere or where it is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignLearner:
    """A learner as a foreign format tells of it; blocks and updates are read when they are asked for."""

    spec: LearnerSpec
    provenance: Provenance
    blocks: Iterable[Block]
    updates: Iterable[Update] = ()
    status: Status = "complete"
    error: str | None = None
    original: OriginalAttempt | None = None
    digest: str | None = None
    """Of the learner as it was recorded, where the source knows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignStore:
    """The learners of one foreign file or folder, which share a family and spaces."""

    family: str
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    total_steps: int
    learners: Iterator[ForeignLearner]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """How a store is written in a foreign format."""

    write: Callable[[Store, Path], Iterator[Moved]]
    """Writes to a place where nothing is, which is gone again should it fail."""
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """How a foreign format is read."""

    read: Callable[[Path], ForeignStore]
    lost: tuple[str, ...]
