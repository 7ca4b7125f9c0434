"""The folders of this machine that remote stores need: a cache that may be lost, and a spool that may not.

===========================  ===============================  ===========================================
environment variable         by default, on Linux             what it is
===========================  ===============================  ===========================================
``HISTORYSTORE_CACHE``       ``~/.cache/historystore``        fetched shards; may be deleted at any time
``HISTORYSTORE_CACHE_GB``    20                               how many 10^9 bytes of them are kept
``HISTORYSTORE_SPOOL``       ``~/.local/state/historystore``  what waits for upload: the only copy there is
===========================  ===============================  ===========================================

``XDG_CACHE_HOME`` and ``XDG_STATE_HOME`` are respected; on macOS both lie below ``~/Library``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from historystore.errors import InvalidValue
from historystore.files import write_errors

CACHE = "HISTORYSTORE_CACHE"
CACHE_GB = "HISTORYSTORE_CACHE_GB"
SPOOL = "HISTORYSTORE_SPOOL"
DEFAULT_CACHE_GB = 20.0
_LOCK = ".lock"


def cache_folder() -> Path:
    """Return the folder of fetched shards."""
    return _folder(CACHE, "XDG_CACHE_HOME", linux=".cache", mac="Library/Caches")


def spool_folder() -> Path:
    """Return the folder of what waits for upload."""
    return _folder(SPOOL, "XDG_STATE_HOME", linux=".local/state", mac="Library/Application Support")


def cache_bytes() -> int:
    """Return how many bytes the cache may hold.

    Raises:
        InvalidValue: the environment says something that is no size.
    """
    text = os.environ.get(CACHE_GB) or str(DEFAULT_CACHE_GB)
    try:
        num_bytes = float(text) * 1e9
    except ValueError:
        num_bytes = -1.0
    if not 0 <= num_bytes < float("inf"):
        raise InvalidValue(f"{CACHE_GB}: expected a number of gigabytes from 0 up, got {text!r}. Correct it.")
    return int(num_bytes)


@contextlib.contextmanager
def claimed(folder: Path, name: str, *, is_waiting: bool) -> Iterator[bool]:
    """Hold a name in a folder against the other processes of this machine; give whether it is held.

    A process that dies lets go. Where the file system has no locks the name counts as held: all that two processes can
    do to each other then is the same work twice.

    Raises:
        WriteFailed: the disk refused.
    """
    with write_errors(folder):
        file = (folder / _LOCK).open("ab")
    with file:
        yield _is_locked(file.fileno(), name, is_waiting=is_waiting)


def _is_locked(descriptor: int, name: str, *, is_waiting: bool) -> bool:
    """Lock one byte of a file for each name, far beyond its end, so that no lock file is ever left behind."""
    byte = int(hashlib.sha256(name.encode()).hexdigest()[:12], 16)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if is_waiting else fcntl.LOCK_NB), 1, byte)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True


def _folder(variable: str, home: str, *, linux: str, mac: str) -> Path:
    if given := os.environ.get(variable):
        return Path(given).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / mac / "historystore"
    return Path(os.environ.get(home) or Path.home() / linux) / "historystore"
