"""A store at a URL. The one module that imports fsspec."""

from __future__ import annotations

import errno
import os
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from historystore.documents import sha256_hex
from historystore.errors import (
    HistoryError,
    InvalidValue,
    MissingExtra,
    NotAStore,
    StoreNotFound,
    Unreachable,
    WriteFailed,
)
from historystore.files import temporary_name
from historystore.places import Kind, Place
from historystore.remote import cache
from historystore.remote.shard import RemoteShard
from historystore.remote.spool import Spool
from historystore.shards import ShardReader
from historystore.shards.protocol import is_shard_name, suffixes

LIST_S = 30.0


class RemotePlace(Place):
    """Objects below a URL; see Place.

    Each process makes a connection of its own. Credentials come from where the backend looks for them: the environment,
    its configuration files, or fsspec's configuration.
    """

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        if urlsplit(url).password is not None:
            raise InvalidValue(
                f"{scheme}://...: holds a password, expected none. Give it in the environment, or in fsspec's "
                "configuration."
            )
        self._url = f"{scheme}://{rest.rstrip('/')}"
        self._pid = -1
        self._system: Any = None
        self._root = ""

    def __str__(self) -> str:
        return self._url

    def __repr__(self) -> str:
        return f"RemotePlace({self._url!r})"

    def __reduce__(self) -> tuple[type[RemotePlace], tuple[str]]:
        return RemotePlace, (self._url,)

    @property
    def path(self) -> Path:
        """Nothing: a remote place has no path.

        Raises:
            InvalidValue: always.
        """
        raise InvalidValue(f"{self}: is remote, expected a folder of this machine. Copy the store into one first.")

    @property
    def list_s(self) -> float:
        """A listing costs a request or more."""
        return LIST_S

    def at(self, name: str) -> str:
        """Return a file's URL."""
        return f"{self._url}/{name}" if name else self._url

    def resolved(self) -> str:
        """Return the URL."""
        return self._url

    def new_id(self, text: str) -> str:
        """Return an id that is the same for equal stores: not every backend lets only one process create a file."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._url} {text}"))

    def kind(self) -> Kind | None:
        """Return what is there; None for nothing."""
        with self._reading("") as (system, path):
            try:
                return "folder" if system.info(path)["type"] == "directory" else "file"
            except FileNotFoundError:
                return None

    def exists(self, name: str) -> bool:
        """Whether a file is there."""
        with self._reading(name) as (system, path):
            try:
                return bool(system.info(path)["type"] == "file")
            except FileNotFoundError:
                return False

    def names(self, folder: str = "") -> list[str]:
        """Name what is right in a folder."""
        return [name for name, _ in self._entries(folder)]

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of each file right in a folder; of none where there is no such folder."""
        try:
            return {name: int(entry["size"]) for name, entry in self._entries(folder) if entry["type"] == "file"}
        except FileNotFoundError:
            return {}

    def files(self) -> dict[str, int]:
        """Return the bytes of every file of the place, by name."""
        with self._reading("") as (system, path):
            found = system.find(path, detail=True)
        start = len(path.rstrip("/")) + 1
        return {
            name[start:]: int(entry["size"])
            for name, entry in sorted(found.items())
            if name[start:] and not name.endswith("/")  # some tools make an empty object for a folder
        }

    def size(self, name: str) -> int:
        """Return the bytes of a file."""
        with self._reading(name) as (system, path):
            return int(system.info(path)["size"])

    def read(self, name: str) -> bytes:
        """Read a whole file."""
        with self._reading(name) as (system, path):
            return bytes(system.cat_file(path))

    def download(self, name: str, path: Path) -> None:
        """Write a whole file's bytes into a local one, whatever they are."""
        with self._reading(name) as (system, source):
            try:
                system.get_file(source, str(path))
            except FileNotFoundError:
                raise StoreNotFound(f"{self.at(name)}: there is no such file. Open the store again.") from None

    def fetched(self, name: str) -> Path:
        """Return a local copy of a shard, checked against its name.

        Raises:
            StoreNotFound: there is no such shard.
            DamagedData: its bytes are not what its name says.
        """
        url = self.at(name)
        return cache.fetched(url.rpartition("/")[2], url=url, download=lambda path: self.download(name, path))

    def shard(self, name: str) -> ShardReader:
        """Return the reader of a shard; nothing is fetched yet."""
        url = self.at(name)
        if not is_shard_name(url.rpartition("/")[2]):
            known = " or ".join(suffixes())
            raise NotAStore(f"{url}: is no shard, expected a SHA-256 and {known} as its name. Give a store or a shard.")
        return RemoteShard(self, name)

    def derived(self, name: str) -> Iterator[bytes]:
        """Give this machine's copy of a derived file, then the store's own, which is kept from then on."""
        copy = cache.kept(self._kept_name(name))
        if copy is not None:
            yield copy
        try:
            data = self.read(name)
        except FileNotFoundError:
            return
        if data != copy:
            cache.keep(self._kept_name(name), data)
            yield data

    def keep_derived(self, name: str, data: bytes, *, is_writing: bool) -> None:
        """Keep a derived file on this machine, and in the store while it is written to."""
        cache.keep(self._kept_name(name), data)
        if is_writing:
            try:
                self.replace(name, data)
            except WriteFailed:
                return

    def prepare(self, folder: str) -> None:
        """Make the spool ready; a folder of the store itself is there as soon as a file is in it."""
        Spool(self._url).prepare(folder)

    def check_writable(self, folder: str) -> None:
        """Find out whether files can be put into a folder, with an empty one that is deleted at once."""
        name = f"{folder}/{temporary_name()}"
        self.replace(name, b"")
        with suppress(Unreachable, FileNotFoundError), self._reading(name) as (system, path):
            system.rm_file(path)

    def put(self, name: str, data: bytes) -> None:
        """Keep a file in the spool and upload it, with all else that waits; where that fails, later.

        A crash loses nothing that was put, nor does a server that does not answer: a warning says so, and `settle`
        fails until everything is uploaded.
        """
        Spool(self._url).add(name, data)
        error = self._upload()
        if error is not None:
            warnings.warn(str(error), stacklevel=2)

    def remove(self, folder: str, names: Sequence[str]) -> None:
        """Remove a folder by its files, in this order, unless something waits for upload."""
        if self._upload() is not None:
            return
        with suppress(HistoryError, FileNotFoundError), self._reading(folder) as (system, path):
            for name in names:
                system.rm_file(f"{path}/{name}")

    def settle(self) -> None:
        """Upload what waits in the spool."""
        error = self._upload()
        if error is not None:
            raise error

    def replace(self, name: str, data: bytes) -> None:
        """Upload a whole file in one go, and look whether it arrived."""
        with self._writing(name) as (system, path):
            system.pipe_file(path, data)
            system.invalidate_cache()
            num_bytes = int(system.info(path)["size"])
        if num_bytes != len(data):
            raise WriteFailed(f"{self.at(name)}: {num_bytes} of {len(data)} bytes arrived. Run the same command again.")

    def create(self, name: str, data: bytes) -> bool:
        """Upload a whole file if there is none of that name yet; say whether it was put."""
        with self._writing(name) as (system, path):
            try:
                system.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            return True

    def _upload(self) -> WriteFailed | None:
        """Upload what waits, in order, up to the first that fails; return that failure."""
        spool = Spool(self._url)
        for name in spool.names():
            with spool.claimed(name) as waiting:
                if waiting is None:
                    continue
                try:
                    self.replace(name, waiting.read_bytes())
                except WriteFailed as error:
                    return self._postponed(spool, error)
                if is_shard_name(waiting.name):
                    cache.adopt(waiting, waiting.name)
                else:
                    waiting.unlink()
        return None

    def _postponed(self, spool: Spool, error: WriteFailed) -> WriteFailed:
        num_files = len(spool.names())
        reason = _reason(error.__cause__ or error)
        return WriteFailed(
            f"{self}: {num_files} file{'s' if num_files > 1 else ''} cannot be uploaded, {reason}. Nothing is lost, "
            f"they wait in {spool.folder}. Run the same command again when the server answers."
        )

    def _entries(self, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
        with self._reading(folder) as (system, path):
            entries = system.ls(path, detail=True)
        for entry in entries:
            name = entry["name"].rstrip("/")
            if name != path.rstrip("/"):  # some tools make an empty object for a folder
                yield name.rpartition("/")[2], entry

    def _kept_name(self, name: str) -> str:
        return f"{sha256_hex(self._url.encode())[:16]}-{name}"

    @contextmanager
    def _reading(self, name: str) -> Iterator[tuple[Any, str]]:
        """Give fsspec's file system and a file's path in it, both fresh; what goes wrong is Unreachable."""
        try:
            yield self._opened(name)
        except (HistoryError, FileNotFoundError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _OF_THIS_DISK:
                raise
            raise Unreachable(f"{self.at(name)}: cannot be read, {_reason(error)}. {_ADVICE}") from error

    @contextmanager
    def _writing(self, name: str) -> Iterator[tuple[Any, str]]:
        """Give fsspec's file system and a file's path in it; what goes wrong is WriteFailed."""
        try:
            yield self._opened(name)
        except HistoryError:
            raise
        except Exception as error:
            raise WriteFailed(f"{self.at(name)}: cannot be written, {_reason(error)}. {_ADVICE}") from error

    def _opened(self, name: str) -> tuple[Any, str]:
        if self._pid != os.getpid():
            self._system, self._root = _connected(self._url)
            self._pid = os.getpid()
        self._system.invalidate_cache()
        return self._system, f"{self._root}/{name}" if name else self._root


_OF_THIS_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_ADVICE = "Check the address, the network and your credentials, and run the same command again."


def _connected(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        _refuse_without_extra(url, error)
    except ValueError as error:
        raise InvalidValue(f"{url}: {error}. Use a URL that fsspec knows, such as s3://bucket/prefix.") from error
    return system, root


def _refuse_without_extra(url: str, error: ImportError) -> NoReturn:
    raise MissingExtra(
        f"{url}: needs a package that is not installed ({error}). Run pip install 'historystore[remote]', or install "
        "the fsspec backend of your server."
    ) from error


def _reason(error: BaseException) -> str:
    """Return the first line of what a library says."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text[0].lower()}{text[1:]}".rstrip(".")
