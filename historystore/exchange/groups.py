"""Foreign HDF5 files with a group a task: opening them, and what one finds in them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from historystore.documents import Provenance
from historystore.errors import InvalidValue


@contextmanager
def opened(source: Path) -> Iterator[Any]:
    """Open a foreign HDF5 file for reading.

    Raises:
        InvalidValue: it is none, or damaged.
    """
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise InvalidValue(f"{source}: cannot be read as HDF5, {error}. Give an HDF5 file.") from None
    with file:
        yield file


def group_names(file: Any, source: Path) -> list[str]:
    """Return the names of a file's groups, numbered ones by number.

    Raises:
        InvalidValue: it has none.
    """
    names = [name for name in file if isinstance(file[name], h5py.Group)]
    if not names:
        raise InvalidValue(f"{source}: has no groups, expected one a task. Give a file in this layout.")
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def check_datasets(group: Any, names: Sequence[str], source: Path) -> None:
    """Check that a group has an array of each name, and that they agree on the first two dimensions.

    Raises:
        InvalidValue: they do not.
    """
    where = f"{source}: group {group.name}"
    missing = [name for name in names if not isinstance(group.get(name), h5py.Dataset)]
    if missing:
        raise InvalidValue(f"{where} has no {', '.join(missing)}. Give a file in this layout.")
    shapes = {name: group[name].shape for name in names}
    if len({shape[:2] for shape in shapes.values()}) > 1 or any(len(shape) < 2 for shape in shapes.values()):
        raise InvalidValue(f"{where} has arrays that do not fit each other, got {shapes}. Give a whole file.")


def provenance_of_file(source: Path, *, engine: str, environment: str) -> Provenance:
    """Return the provenance of what was imported from a file that says nothing of its own."""
    return Provenance(
        engine=engine,
        engine_version="",
        algorithm_path="",
        environment=environment,
        versions={"source": source.name},
        host=socket.gethostname(),
    )
