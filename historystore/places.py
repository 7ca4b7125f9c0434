"""Where a store lies: in a folder of this machine, or at a URL that fsspec knows.

A place knows files alone. Their names are relative to it, with ``/`` between the parts; the name ``""`` is the place
itself, which may be a single shard.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from historystore.errors import WriteFailed
from historystore.files import check_folder, create_file, make_folder, remove_files, replace_file, sweep
from historystore.shards import ShardReader, open_shard

StorePath: TypeAlias = str | os.PathLike[str]
Kind = Literal["folder", "file"]
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_LOCAL_SCHEMES = ("file", "local")


class Place(ABC):
    """Where the files of one store lie. Its text is what messages call it; it can be pickled.

    Whatever is asked of a remote place may raise Unreachable. An abstract class where a Protocol would do: before
    Python 3.12, asking whether an object fits a Protocol reads all of its properties.
    """

    @property
    @abstractmethod
    def path(self) -> Path:
        """The local folder, or the local file of a single shard.

        Raises:
            InvalidValue: it is remote.
        """

    @property
    @abstractmethod
    def list_s(self) -> float:
        """The least seconds between two listings that nobody asked for."""

    @abstractmethod
    def at(self, name: str) -> Path | str:
        """Return where a file lies: a path, or a URL."""

    @abstractmethod
    def resolved(self) -> str:
        """Return what another process, in another directory, finds it by."""

    @abstractmethod
    def new_id(self, text: str) -> str:
        """Return an id for the store that is created here with some contents."""

    @abstractmethod
    def kind(self) -> Kind | None:
        """Return what is there; None for nothing."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Whether a file is there."""

    @abstractmethod
    def names(self, folder: str = "") -> list[str]:
        """Name what is right in a folder.

        Raises:
            FileNotFoundError: there is no such folder.
        """

    @abstractmethod
    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of each file right in a folder; of none where there is no such folder."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Read a whole file.

        Raises:
            FileNotFoundError: there is no such file.
        """

    @abstractmethod
    def shard(self, name: str) -> ShardReader:
        """Return the reader of a shard; nothing is read yet."""

    @abstractmethod
    def derived(self, name: str) -> Iterator[bytes]:
        """Give what is kept of a file that was derived from the store; the nearest copy first."""

    @abstractmethod
    def keep_derived(self, name: str, data: bytes, *, is_writing: bool) -> None:
        """Keep a derived file where that is possible; in a remote store itself only while it is written to."""

    @abstractmethod
    def prepare(self, folder: str) -> None:
        """Make a folder ready for `put`, and sweep away what dead processes of this machine left in it.

        Raises:
            WriteFailed: the disk refused.
        """

    @abstractmethod
    def check_writable(self, folder: str) -> None:
        """Find out whether files can be put into a folder.

        Raises:
            WriteFailed: the disk or server refused.
        """

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Keep a file, whole, from now on; a remote place may have to wait for it, see `settle`.

        Raises:
            WriteFailed: the disk refused; nothing has changed.
        """

    @abstractmethod
    def remove(self, folder: str, names: Sequence[str]) -> None:
        """Remove a folder by its files, in this order; what the disk or server refuses stays.

        A remote place removes nothing while something waits for upload: that may be what takes its place.
        """

    @abstractmethod
    def settle(self) -> None:
        """Upload what was put and could not be uploaded so far, by this process or by earlier ones of this machine.

        Raises:
            WriteFailed: something still waits; nothing is lost.
        """

    @abstractmethod
    def replace(self, name: str, data: bytes) -> None:
        """Put a file in place, whole, now; one of that name is replaced.

        Raises:
            WriteFailed: the disk or server refused.
        """

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Put a file in place, whole, if there is none of that name yet; say whether it was put.

        Raises:
            WriteFailed: the disk or server refused.
        """


class LocalPlace(Place):
    """A folder of this machine, or a single shard's file; see Place."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def __repr__(self) -> str:
        return f"LocalPlace({str(self._path)!r})"

    @property
    def path(self) -> Path:
        """The folder, or the file."""
        return self._path

    @property
    def list_s(self) -> float:
        """Listing a folder costs nothing."""
        return 0.0

    def at(self, name: str) -> Path:
        """Return a file's path."""
        return self.path / name

    def resolved(self) -> str:
        """Return the absolute path."""
        return str(self.path.resolve())

    def new_id(self, text: str) -> str:
        """Return a random id: only one process creates the store."""
        return str(uuid.uuid4())

    def kind(self) -> Kind | None:
        """Return what is there; None for nothing."""
        if self.path.is_dir():
            return "folder"
        return "file" if self.path.exists() else None

    def exists(self, name: str) -> bool:
        """Whether a file is there."""
        return self.at(name).exists()

    def names(self, folder: str = "") -> list[str]:
        """Name what is right in a folder."""
        return os.listdir(self.at(folder))  # noqa: PTH208 - names, not paths

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of each file right in a folder; of none where there is no such folder."""
        sizes = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.at(folder)) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # a temporary file comes and goes
                    sizes[entry.name] = entry.stat().st_size
        return sizes

    def read(self, name: str) -> bytes:
        """Read a whole file."""
        return self.at(name).read_bytes()

    def shard(self, name: str) -> ShardReader:
        """Return the reader of a shard's file."""
        return open_shard(self.at(name))

    def derived(self, name: str) -> Iterator[bytes]:
        """Give a derived file's bytes, if they can be read."""
        with contextlib.suppress(OSError):
            yield self.read(name)

    def keep_derived(self, name: str, data: bytes, *, is_writing: bool) -> None:
        """Keep a derived file in the store, unless the disk refuses."""
        with contextlib.suppress(WriteFailed):
            self.replace(name, data)

    def prepare(self, folder: str) -> None:
        """Make a folder, and sweep away what dead processes of this machine left in it."""
        make_folder(self.at(folder))
        sweep(self.at(folder))

    def check_writable(self, folder: str) -> None:
        """Find out whether files can be put into a folder."""
        check_folder(self.at(folder))

    def put(self, name: str, data: bytes) -> None:
        """Put a file in place, whole, and wait until it is on the disk."""
        replace_file(self.at(name), data)

    def remove(self, folder: str, names: Sequence[str]) -> None:
        """Remove a folder by its files, in this order."""
        with contextlib.suppress(WriteFailed, OSError):
            remove_files(self.at(folder), names)
            self.at(folder).rmdir()

    def settle(self) -> None:
        """Do nothing: what was put is in place."""

    def replace(self, name: str, data: bytes) -> None:
        """Put a file in place, whole, and wait until it is on the disk."""
        replace_file(self.at(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Put a file in place, whole, if there is none of that name yet; say whether it was put."""
        return create_file(self.at(name), data)


def place_of(where: StorePath | Place) -> Place:
    """Return the place that a path or URL names; nothing is opened. `file://` is a path.

    Raises:
        InvalidValue: the URL holds a password, or no place at all.
    """
    if isinstance(where, Place):
        return where
    url = _URL.fullmatch(os.fspath(where))
    if url is None:
        return LocalPlace(Path(where))
    if url[1].lower() in _LOCAL_SCHEMES:
        return LocalPlace(Path(url[2]))
    from historystore.remote import RemotePlace

    return RemotePlace(os.fspath(where))


def path_or_url(where: StorePath | Place) -> Path | str:
    """Return a path, or the URL of a remote place."""
    return place_of(where).at("")
