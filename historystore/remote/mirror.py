"""A remote store's files as they are, copied into a folder for as long as they are checked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from historystore.errors import NotAStore, StoreNotFound
from historystore.files import is_temporary, temporary_name, write_errors
from historystore.folder import CHECKPOINTS, DOCUMENT, SHARDS
from historystore.remote.cache import scratch_folder
from historystore.remote.place import RemotePlace


class Mirror:
    """A copy of a remote store, or of one of its shards, damage and all; nothing of it comes from the cache."""

    def __init__(self, place: RemotePlace, folder: Path) -> None:
        self._place = place
        self._folder = folder
        self._files = _files(place)
        self.path = folder if "" not in self._files else folder / str(place).rpartition("/")[2]
        """The folder, or the file of the one shard."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all files."""
        return sum(self._files.values())

    def iter_copied(self) -> Iterator[tuple[str, int]]:
        """Copy one file after another; give its name and bytes.

        What is no part of a store is there by its name alone: nobody looks into it.
        """
        for name, num_bytes in self._files.items():
            path = self._folder / name if name else self.path
            with write_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                if _is_looked_into(name):
                    self._place.download(name, path)
                else:
                    path.touch()
            yield name, num_bytes


@contextmanager
def mirror(place: RemotePlace) -> Iterator[Mirror]:
    """Give what copies a store into a folder of its own; the folder is deleted afterwards.

    Raises:
        StoreNotFound: nothing is at the place.
        NotAStore: something else is there.
    """
    folder = scratch_folder() / temporary_name()
    try:
        folder.mkdir()
        yield Mirror(place, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_looked_into(name: str) -> bool:
    parts = name.split("/")
    return (len(parts) == 1 or parts[0] in (SHARDS, CHECKPOINTS)) and not is_temporary(parts[-1])


def _files(place: RemotePlace) -> dict[str, int]:
    """Return the bytes of each file to copy, by name; the name "" is a single shard."""
    kind = place.kind()
    if kind is None:
        raise StoreNotFound(f"{place}: there is nothing. Check the URL; hist inspect lists the stores below one.")
    if kind == "file":
        return {"": place.size("")}
    files = place.files()
    if DOCUMENT not in files and not any(name.startswith(f"{SHARDS}/") for name in files):
        raise NotAStore(f"{place}: is no store, it has no {DOCUMENT}. Check the URL; hist inspect lists those there.")
    return files
