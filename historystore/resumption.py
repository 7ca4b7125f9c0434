"""Checkpoints on the way: which one a killed learner continues from, and which nobody needs any more.

Such a checkpoint has a file ``progress.json`` that says whose it is and holds what the parameters do not tell. It
counts from the moment when a learner's row in a sealed shard names it; that shard or an earlier one holds every step
before it. It is removed when a newer one counts, so a learner has one of them, or two for a moment; what a crash left
beside it is swept away by the next recording.
"""

from __future__ import annotations

import os
import re
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import JsonValue

from historystore.checkpoints import PROGRESS, CheckpointDocument, read_checkpoint, remove_checkpoint
from historystore.documents import Count, Document, Sha256, parse_json, validated
from historystore.errors import DamagedData, HistoryError, InvalidValue, StoreNotFound
from historystore.files import is_process_gone, is_stale
from historystore.folder import CHECKPOINTS
from historystore.learners import Learner
from historystore.places import Place, place_of
from historystore.store import Store

FINAL = "final"
_EVERY = re.compile(r"every=([1-9][0-9_,]*)")


class Progress(Document):
    """``progress.json``: how far a learner was, and everything but parameters that it needs to go on."""

    learner: Sha256
    step: Count
    """Of each stream: the first that the checkpoint does not know."""
    wall_time_s: float
    """Seconds of learning so far."""
    host: str
    pid: int
    """Who wrote it: while that process lives, nobody else removes it."""
    num_bytes: Count
    """Of the arrays, decompressed."""
    state: dict[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """Where a learner goes on."""

    learner: Learner
    """The attempt that shows of it."""
    checkpoint: str
    document: CheckpointDocument
    progress: Progress
    files: Mapping[str, bytes]


def checkpoint_interval(checkpoints: str | None) -> int | None:
    """Return the steps between checkpoints, None where only the end is kept, or nothing.

    Raises:
        InvalidValue: it is neither ``final`` nor ``every=N``.
    """
    if checkpoints is None or checkpoints == FINAL:
        return None
    match = _EVERY.fullmatch(checkpoints)
    if match is None:
        raise InvalidValue(
            f"checkpoints: expected 'final' or 'every=N' with a whole number of steps, got {checkpoints!r}. "
            "Leave it out to store no model."
        )
    return int(re.sub("[_,]", "", match[1]))


def progress_here(learner: str, *, step: int, wall_time_s: float, num_bytes: int, state: Mapping[str, Any]) -> Progress:
    """Return the progress of a learner of this process."""
    return Progress(
        learner=learner,
        step=step,
        wall_time_s=wall_time_s,
        host=socket.gethostname(),
        pid=os.getpid(),
        num_bytes=num_bytes,
        state=dict(state),
    )


def resumption(store: Store, learner: str) -> Resumption | None:
    """Return where a learner goes on: at the checkpoint that its visible attempt names; None if it begins anew.

    Refreshes the store only if some checkpoint is the learner's. A damaged checkpoint is told in a warning.
    """
    if learner not in [_owner(store.place, name) for name in _names(store.place)]:
        return None
    store.refresh()
    if store.status_of().get(learner) in (None, "complete"):
        return None
    found = store.learner(learner)
    if found.row.checkpoint is None:
        return None
    try:
        document, files = read_checkpoint(store.place, found.row.checkpoint)
        if PROGRESS not in files:
            return None
        progress = _parsed(files[PROGRESS], where=f"{CHECKPOINTS}/{found.row.checkpoint}/{PROGRESS}")
    except StoreNotFound:
        return None
    except DamagedData as error:
        warnings.warn(f"{error} Learner {learner[:12]} begins anew.", stacklevel=2)
        return None
    num_steps = [history.num_steps for history in found.histories]
    if progress.learner != learner or len(num_steps) < found.spec.num_streams or min(num_steps) < progress.step:
        return None
    return Resumption(learner=found, checkpoint=found.row.checkpoint, document=document, progress=progress, files=files)


def checkpoint_step(store: Store, name: str) -> int | None:
    """Return the step of each stream from which a checkpoint's learner can go on; None for a model alone."""
    progress = _progress(store.place, name)
    return None if progress is None else progress.step


def sweep_checkpoints(store: Store) -> None:
    """Remove checkpoints on the way that no visible learner names, and unfinished ones, of processes that are no more.

    An empty folder stays: who made it may be about to fill it.
    """
    store.refresh()
    named = {learner.row.checkpoint for learner in store.learners}
    for name in _names(store.place):
        if name not in named and _is_left_over(store.place, name):
            remove_checkpoint(store.place, name)


def _is_left_over(place: Place, name: str) -> bool:
    progress = _progress(place, name)
    if progress is not None:
        return is_process_gone(progress.host, progress.pid)
    with suppress(OSError):
        files = place.names(f"{CHECKPOINTS}/{name}")
        return bool(files) and all(map(is_stale, files))
    return False


def _names(place: Place) -> Iterator[str]:
    with suppress(FileNotFoundError):
        yield from place.names(CHECKPOINTS)


def _owner(place: Place, name: str) -> str | None:
    return _cached_owner(place.resolved(), name)


@cache
def _cached_owner(place: str, name: str) -> str | None:
    """Return whose checkpoint it is, if it is one in the middle of a learning; a checkpoint never changes."""
    progress = _progress(place_of(place), name)
    return None if progress is None else progress.learner


def _progress(place: Place, name: str) -> Progress | None:
    file = f"{CHECKPOINTS}/{name}/{PROGRESS}"
    try:
        return _parsed(place.read(file), where=file) if place.exists(file) else None
    except (HistoryError, OSError):
        return None


def _parsed(data: bytes, *, where: str) -> Progress:
    return validated(Progress, parse_json(data, where=where), where=where, is_lenient=True)
