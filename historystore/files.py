"""Files that appear whole or not at all, and the sweeping of what a killed writer left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from historystore.errors import HistoryError, WriteFailed

_TEMPORARY = re.compile(r"\.(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{16}\.tmp")
_ADVICE = {
    errno.ENOSPC: "Free some space and run the same command again.",
    errno.EDQUOT: "Free some of your quota and run the same command again.",
    errno.EROFS: "Choose a place that can be written to.",
    errno.EACCES: "Choose a place that you may write to.",
    errno.EPERM: "Choose a place that you may write to.",
}
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_ours: set[str] = set()


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in place, whole, and wait until it is on the disk; a file of that name is replaced.

    Raises:
        WriteFailed: the disk refused; nothing has changed.
    """
    with _temporary(path, data) as temporary:
        temporary.rename(path)
        _sync_folder(path.parent)


def create_file(path: Path, data: bytes) -> bool:
    """Put a file in place, whole, if there is none of that name yet; say whether it was put.

    Raises:
        WriteFailed: the disk refused; nothing has changed.
    """
    with _temporary(path, data) as temporary:
        try:
            _link(temporary, path, data)
        except FileExistsError:
            return False
        _sync_folder(path.parent)
        return True


def link_file(source: Path, path: Path) -> bool:
    """Give a file that never changes a second name, unless there is one of that name; say whether it was given.

    The bytes are shared where the disk can do that, and copied elsewhere; a copy appears whole or not at all.

    Raises:
        WriteFailed: the disk refused; nothing has changed.
    """
    if path.exists():
        return False
    try:
        path.hardlink_to(source)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (*_NO_LINKS, errno.EXDEV):
            raise _write_failed(path, error) from error
        replace_file(path, source.read_bytes())
        return True
    with write_errors(path):
        _sync_folder(path.parent)
    return True


def remove_files(folder: Path, names: Iterable[str]) -> None:
    """Remove files of a folder in order, those that are there, and wait until that is on the disk.

    Raises:
        WriteFailed: the disk refused.
    """
    with write_errors(folder):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        _sync_folder(folder)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing, and wait until they are on the disk.

    Raises:
        WriteFailed: the disk refused, or a file is in the way.
    """
    with write_errors(path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            _sync_folder(folder.parent)


def check_folder(folder: Path) -> None:
    """Find out whether files can be put into a folder, by opening a nameless one there for a moment.

    Raises:
        WriteFailed: the disk refused.
    """
    with write_errors(folder), tempfile.TemporaryFile(dir=folder):
        pass


def temporary_name() -> str:
    """Return a new name for what this process has begun to write; `sweep` deletes it when the process is no more."""
    return f".{_host()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Give a free temporary path beside a path; its file is gone afterwards, unless it was renamed.

    Raises:
        WriteFailed: the disk refused.
    """
    name = temporary_name()
    temporary = path.parent / name
    _ours.add(name)
    try:
        with write_errors(path):
            yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        _ours.discard(name)


def is_temporary(name: str) -> bool:
    """Whether a file's name is that of a file still being written."""
    return _TEMPORARY.fullmatch(name) is not None


def sweep(folder: Path) -> int:
    """Delete the temporary files and folders of processes of this host that are no more; return how many.

    A file of another host, or of a living process, stays.
    """
    stale = [path for path in folder.iterdir() if is_stale(path.name)]
    num_deleted = 0
    for path in stale:
        with contextlib.suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            num_deleted += 1
    return num_deleted


def _link(temporary: Path, path: Path, data: bytes) -> None:
    """Give a file its name if that is free; without hard links, by writing it anew where nothing is."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def _temporary(path: Path, data: bytes) -> Iterator[Path]:
    """Give a synced temporary file beside a path; it is gone afterwards, unless it was renamed."""
    with temporary_beside(path) as temporary:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn the disk's refusal into WriteFailed, which names the path and says what to do."""
    try:
        yield
    except HistoryError:
        raise
    except OSError as error:
        raise _write_failed(path, error) from error


def _write_failed(path: Path, error: OSError) -> WriteFailed:
    reason = (error.strerror or str(error)).lower()
    advice = _ADVICE.get(error.errno or 0, "Look at the disk and run the same command again.")
    return WriteFailed(f"{path}: cannot be written, {reason}. {advice}")


def _sync_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname()) or "localhost"


def is_stale(name: str) -> bool:
    """Whether a file's name is that of a file that a process of this host, which is no more, was writing."""
    match = _TEMPORARY.fullmatch(name)
    if match is None or match["host"] != _host():
        return False
    pid = int(match["pid"])
    if pid == os.getpid():
        # A process that got the number of a dead one, as the first in a container does.
        return name not in _ours
    return is_process_gone(socket.gethostname(), pid)


def is_process_gone(host: str, pid: int) -> bool:
    """Whether a process was of this host and is no more; of another host's, nobody knows."""
    if host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and its parent has not asked how, as the first one in a container may never do."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # gone this moment, or a system without such files
        return False
    return status.rpartition(")")[2].split()[0] == "Z"
