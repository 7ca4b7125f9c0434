"""Where two stores differ: in their learners, in which part of a learner, and from which step on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from historystore.digest import Json
from historystore.histories import History
from historystore.learners import Learner
from historystore.replay import READ_STEPS, replay
from historystore.shard_check import SHARED
from historystore.store import Store

_ORIGIN = ("attempt", "continues", "provenance", "error", "started", "ended", "checkpoint")
"""What a learner's row says of its making, which no digest depends on."""


class Difference(BaseModel):
    """One thing in which two stores differ."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["store", "learner", "data", "origin"]
    """The stores' documents; a learner that one of them lacks; what it lived; where it comes from."""
    learner: str | None = None
    part: str | None = None
    """The step field as `steps/<field>`, a table, or the key of a document."""
    message: str

    def __str__(self) -> str:
        """Return the place and the difference, in one line."""
        place = [f"learner {self.learner[:12]}" if self.learner else "store", *([self.part] if self.part else [])]
        return f"{', '.join(place)}: {self.message}"


class Compared(BaseModel):
    """How far a comparison is, and what it has found on the way there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    done: int
    total: int
    """Learners of either store."""
    differences: tuple[Difference, ...] = ()


def differences(one: Store, other: Store, *, is_data_only: bool = False) -> Iterator[Difference]:
    """Yield where two stores differ in what they show: how they are packed and what they are called does not matter.

    Learners with equal digests are the same without a look at their steps; of others everything is read.

    Args:
        one: a store.
        other: another one.
        is_data_only: leave out where learners come from: attempt, times, host, versions, checkpoint.
    """
    for compared in iter_compared(one, other, is_data_only=is_data_only):
        yield from compared.differences


def iter_compared(one: Store, other: Store, *, is_data_only: bool = False) -> Iterator[Compared]:
    """Compare as `differences` does, and yield progress."""
    ours, theirs = ({learner.id: learner for learner in store.learners} for store in (one, other))
    ids = sorted({*ours, *theirs})
    yield Compared(done=0, total=len(ids), differences=tuple(_of_documents(one, other)))
    for done, learner in enumerate(ids, start=1):
        found: list[Difference] = []
        if learner not in ours or learner not in theirs:
            there = one if learner in ours else other
            found.append(Difference(kind="learner", learner=learner, message=f"is only in {there.path}."))
        else:
            found += _of_learners(ours[learner], theirs[learner])
            found += [] if is_data_only else _of_origins(ours[learner], theirs[learner])
        if found or done == len(ids):
            yield Compared(done=done, total=len(ids), differences=tuple(found))


def _of_documents(one: Store, other: Store) -> Iterator[Difference]:
    for key in ("format_version", *SHARED):
        if getattr(one.document, key) != getattr(other.document, key):
            yield Difference(kind="store", part=key, message="is not the same.")


def _of_learners(one: Learner, other: Learner) -> Iterator[Difference]:
    """Compare what two attempts at one learner lived."""
    if one.status != other.status:
        yield _data(one, "status", f"is {one.status}, and {other.status} there.")
    if one.digest == other.digest:
        return
    ours, theirs = replay(one).document(), replay(other).document()
    for key in ("num_steps", "fields"):
        if ours[key] != theirs[key]:
            yield _data(one, key, f"is {_named(ours[key])}, and {_named(theirs[key])} there.")
    for name in sorted(ours["steps"].keys() & theirs["steps"].keys()):
        for stream in _differing(ours, theirs, "steps", name):
            step = _first_difference(one.histories[stream], other.histories[stream], name)
            yield _data(one, f"steps/{name}", f"differs in stream {stream} from step {step} on.")
    for name in sorted(ours["final_observations"].keys() & theirs["final_observations"].keys()):
        for stream in _differing(ours, theirs, "final_observations", name):
            yield _data(one, f"final_observations/{name}", f"differs in stream {stream}.")
    for stream in _differing(ours, theirs, "episodes"):
        yield _data(one, "episodes", f"differ in stream {stream}: in first step, length or seed.")
    if ours["updates"] != theirs["updates"]:
        yield _data(one, "updates", "differ: in step, learning rate or a logged value.")


def _of_origins(one: Learner, other: Learner) -> Iterator[Difference]:
    """Name what differs in where two attempts at one learner come from."""
    ours, theirs = (each.row.model_dump(mode="json", include=set(_ORIGIN)) for each in (one, other))
    names = [name for name in _ORIGIN if name != "provenance" and ours[name] != theirs[name]]
    ours, theirs = ours["provenance"], theirs["provenance"]
    names += [f"provenance.{name}" for name in ours if ours[name] != theirs[name]]
    if names:
        yield Difference(kind="origin", learner=one.id, message=f"{', '.join(names)} not the same.")


def _differing(ours: Json, theirs: Json, part: str, name: str | None = None) -> list[int]:
    """Return the streams whose digests differ in some part."""
    pair = [document[part] if name is None else document[part][name] for document in (ours, theirs)]
    return [stream for stream, (a, b) in enumerate(zip(*pair, strict=True)) if a != b]


def _first_difference(one: History, other: History, field: str) -> int:
    """Return the first step at which two histories differ in a field; the shorter one's end if it just ends there."""
    shorter = min(len(one), len(other))
    for start in range(0, shorter, READ_STEPS):
        stop = min(start + READ_STEPS, shorter)
        ours, theirs = (history.read(start, stop, fields=[field])[field] for history in (one, other))
        if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
            return start
        differing = np.flatnonzero((_bits(ours) != _bits(theirs)).any(axis=1))
        if len(differing):
            return start + int(differing[0])
    return shorter


def _bits(column: np.ndarray) -> np.ndarray:
    """Return each step's value as bytes, so that NaN equals NaN."""
    rows = column.reshape(len(column), -1)  # (steps, values)
    return rows if rows.dtype.hasobject else np.ascontiguousarray(rows).view("u1")


def _data(learner: Learner, part: str, message: str) -> Difference:
    return Difference(kind="data", learner=learner.id, part=part, message=message)


def _named(value: list[object]) -> str:
    return ", ".join(str(each[0]) if isinstance(each, list) else str(each) for each in value)
