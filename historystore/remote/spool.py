"""What was sealed and is not uploaded yet: on this machine's disk, so that nothing is lost while a server is down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from historystore.documents import sha256_hex
from historystore.files import is_temporary, make_folder, replace_file, sweep
from historystore.remote.folders import claimed, spool_folder

_URL = "url"


class Spool:
    """The files that wait for one store, in the order in which they were added."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.folder = spool_folder() / sha256_hex(url.encode())[:16]

    def prepare(self, folder: str) -> None:
        """Make a folder, and sweep away what dead processes left in it; the file `url` says whose it is.

        Raises:
            WriteFailed: the disk refused.
        """
        make_folder(self.folder / folder)
        sweep(self.folder / folder)
        if not (self.folder / _URL).exists():
            replace_file(self.folder / _URL, f"{self._url}\n".encode())

    def add(self, name: str, data: bytes) -> None:
        """Put a file on the disk.

        Raises:
            WriteFailed: the disk refused.
        """
        self.prepare(str(Path(name).parent))
        replace_file(self.folder / name, data)

    def names(self) -> list[str]:
        """Name the files that wait, the oldest first."""
        waiting = []
        for path in self.folder.glob("*/**/*"):
            with suppress(FileNotFoundError):  # another process has just uploaded it
                if path.is_file() and not is_temporary(path.name):
                    waiting.append((path.stat().st_mtime_ns, str(path.relative_to(self.folder))))
        return [name for _, name in sorted(waiting)]

    @contextmanager
    def claimed(self, name: str) -> Iterator[Path | None]:
        """Hold a file that waits; give its path, or None where another process is at it or done with it."""
        with claimed(self.folder, name, is_waiting=False) as is_ours:
            path = self.folder / name
            yield path if is_ours and path.is_file() else None
