"""Models beside the histories: parameters and optimiser state as safetensors, everything else as JSON, no pickle.

A checkpoint is a folder ``checkpoints/<sha256>/``. Its name is the SHA-256 of its ``model.json``, which holds the
SHA-256 of each other file, so equal models are one checkpoint and every byte can be checked. ``model.json`` is written
last: a folder without one is what a crash left, and nobody reads it. This module knows files alone; `historystore.sb3`
turns models into them and back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from historystore.documents import (
    FORMAT_VERSION,
    Document,
    LearnerRow,
    Sha256,
    Version,
    canonical_json,
    parse_document,
    sha256_hex,
)
from historystore.errors import DamagedData, HistoryError, InvalidValue, StoreNotFound
from historystore.folder import CHECKPOINTS
from historystore.places import Place, StorePath, place_of

DOCUMENT = "model.json"
PROGRESS = "progress.json"
"""In a checkpoint that its learner can go on from: whose it is, and what parameters do not tell."""
_NAME = re.compile(r"[0-9a-f]{64}")


class CheckpointDocument(Document):
    """``model.json``: how to build the model again, and the digests of the files that hold its arrays."""

    format: Literal["historystore"] = "historystore"
    format_version: Version = FORMAT_VERSION
    algorithm: str
    """Import path of the algorithm's class, as ``module:Name``."""
    policy: str | None
    """Import path of the policy's class; None where it cannot be imported again."""
    observation_space: dict[str, JsonValue]
    action_space: dict[str, JsonValue]
    num_streams: int
    attributes: dict[str, JsonValue]
    """What the model was made with and how far it is, each value such that it can be read back."""
    left_out: dict[str, JsonValue]
    """Descriptions of what could not be stored without pickle."""
    optimizers: dict[str, JsonValue]
    """Each optimiser's state apart from its arrays."""
    files: dict[str, Sha256]
    """SHA-256 of each other file, by name."""


def write_checkpoint(store: StorePath | Place, document: CheckpointDocument, files: Mapping[str, bytes]) -> str:
    """Put a checkpoint into a store, and return its name; one that is there already is left alone.

    Args:
        store: where the store is.
        document: it holds the digests of the files (`file_digests`).
        files: their bytes by name, written in this order.

    Raises:
        WriteFailed: the disk refused.
    """
    place, data = place_of(store), canonical_json(document)
    name = sha256_hex(data)
    folder = f"{CHECKPOINTS}/{name}"
    if not place.exists(f"{folder}/{DOCUMENT}"):
        place.prepare(folder)
        for file, content in files.items():
            place.put(f"{folder}/{file}", content)
        place.put(f"{folder}/{DOCUMENT}", data)
    return name


def file_digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file by its name."""
    return {name: sha256_hex(data) for name, data in files.items()}


def read_checkpoint(store: StorePath | Place, name: str) -> tuple[CheckpointDocument, dict[str, bytes]]:
    """Return a checkpoint's document and the bytes of its other files, each checked against its digest.

    Raises:
        InvalidValue: the name is not a SHA-256.
        StoreNotFound: the store has no such checkpoint.
        DamagedData: a file is missing or does not hold what was written to it; the message names it.
    """
    place, folder = place_of(store), _folder(name)
    try:
        place.names(folder)
    except (FileNotFoundError, NotADirectoryError):
        text = f"{place.at(folder)}: no such checkpoint. Look up the learner's own with hist inspect."
        raise StoreNotFound(text) from None
    file = f"{folder}/{DOCUMENT}"
    document = parse_document(CheckpointDocument, _checked(place, file, name), where=str(place.at(file)))
    return document, {one: _checked(place, f"{folder}/{one}", digest) for one, digest in document.files.items()}


def named_checkpoints(rows: Iterable[LearnerRow]) -> frozenset[str]:
    """Return the checkpoints that learners need: those on the way to a later one are gone.

    Of an attempt the latest row counts; of a learner none of an attempt that another one continues, and none of an
    unfinished one beside a complete one.
    """
    latest: dict[tuple[str, str], LearnerRow] = {}
    for row in sorted(rows, key=lambda row: row.sequence):
        latest[row.learner, row.attempt] = row
    continued = {(row.learner, row.continues.attempt) for row in latest.values() if row.continues is not None}
    complete = {row.learner for row in latest.values() if row.status == "complete"}
    needed = [row for key, row in latest.items() if key not in continued]
    return frozenset(
        row.checkpoint
        for row in needed
        if row.checkpoint is not None and (row.status == "complete" or row.learner not in complete)
    )


def remove_checkpoint(store: StorePath | Place, name: str) -> None:
    """Remove a checkpoint, as far as the disk lets us.

    Its document goes first, so that a crash on the way leaves a folder that nobody reads; what tells whose it is last.
    """
    place, folder = place_of(store), _folder(name)
    with suppress(OSError):
        names = sorted(place.names(folder), key=lambda file: (file == PROGRESS) - (file == DOCUMENT))
        place.remove(folder, names)


def checkpoint_path(store: Path, name: str) -> Path:
    """Return where a checkpoint lies in a store's folder."""
    return store / _folder(name)


def _folder(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise InvalidValue(f"checkpoint: expected the 64 hexadecimal digits of a SHA-256, got {name!r}.")
    return f"{CHECKPOINTS}/{name}"


def _checked(place: Place, file: str, digest: str) -> bytes:
    try:
        data = place.read(file)
    except HistoryError:
        raise
    except OSError as error:
        reason = error.strerror or "it is not there"
        raise DamagedData(f"{place.at(file)}: cannot be read, {reason}. Restore the file from a copy.") from None
    if sha256_hex(data) != digest:
        raise DamagedData(f"{place.at(file)}: does not hold what was written to it. Restore the file from a copy.")
    return data
