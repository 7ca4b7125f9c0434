"""Fetched shards on this machine, each named by the SHA-256 of its bytes and checked against it once.

Many processes share the cache. A file appears whole or not at all; beyond the size that is allowed the files opened
least recently go, which harms nobody: an open file stays readable, and a shard that is needed again is fetched again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from historystore.errors import DamagedData, WriteFailed
from historystore.files import make_folder, replace_file, sweep, temporary_beside
from historystore.remote.folders import cache_bytes, cache_folder, claimed
from historystore.shard_check import sha256_of


def fetched(name: str, *, url: str, download: Callable[[Path], None]) -> Path:
    """Return the local file of a shard, downloaded if it is not there; several processes download it once.

    Raises:
        DamagedData: what was downloaded is not what the name says.
        WriteFailed: the disk refused.
    """
    path = cache_folder() / name
    if not _touched(path):
        _make_folder()
        with claimed(path.parent, name, is_waiting=True):
            if not _touched(path):
                with temporary_beside(path) as temporary:
                    download(temporary)
                    _check(temporary, name, url=url)
                    temporary.rename(path)
        _evict(keep=path)
    return path


def dropped_if_damaged(name: str) -> bool:
    """Drop a shard's local file if it is not what its name says, or gone; say whether it is to be fetched again."""
    path = cache_folder() / name
    with contextlib.suppress(FileNotFoundError):
        if sha256_of(path) == name.partition(".")[0]:
            return False
        path.unlink()
    return True


def adopt(path: Path, name: str) -> None:
    """Move a file that is known to be what its name says into the cache, or delete it where that cannot be."""
    try:
        _make_folder()
        path.rename(cache_folder() / name)
        _evict(keep=cache_folder() / name)
    except (OSError, WriteFailed):
        path.unlink(missing_ok=True)


def keep(name: str, data: bytes) -> None:
    """Keep a derived file, unless the disk refuses."""
    with contextlib.suppress(WriteFailed):
        _make_folder()
        replace_file(cache_folder() / name, data)


def kept(name: str) -> bytes | None:
    """Return a derived file that is kept, or None."""
    try:
        return (cache_folder() / name).read_bytes()
    except OSError:
        return None


def scratch_folder() -> Path:
    """Return the cache's folder, made and swept, for what one process needs for a while."""
    _make_folder()
    sweep(cache_folder())
    return cache_folder()


def _make_folder() -> None:
    if not cache_folder().is_dir():
        make_folder(cache_folder())


def _check(path: Path, name: str, *, url: str) -> None:
    if sha256_of(path) != name.partition(".")[0]:
        raise DamagedData(
            f"{url}: does not hold what was written to it: the SHA-256 of its bytes is not its name. "
            "Run hist verify; restore it from a copy."
        )


def _touched(path: Path) -> bool:
    """Note that a file is used; False if it is not there. A cache that cannot be written to can still be read."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:
        return path.is_file()
    return True


def _evict(*, keep: Path) -> None:
    """Delete the files used least recently until the rest is as small as allowed."""
    files = []
    with os.scandir(keep.parent) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file() and not entry.name.startswith("."):
                    files.append((entry.stat().st_mtime_ns, entry.stat().st_size, Path(entry.path)))
    excess = sum(size for _, size, _ in files) - cache_bytes()
    for _, size, path in sorted(files):
        if excess <= 0:
            return
        if path != keep:
            path.unlink(missing_ok=True)
            excess -= size
