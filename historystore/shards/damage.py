"""What a library raises over a malformed file, turned into one error of ours."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from historystore.errors import DamagedData, HistoryError

NOT_DAMAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)
"""What the system may say of a file that is whole."""


@contextmanager
def damage(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a library raises over a malformed file into DamagedData.

    pyarrow's errors are among those named: they refine ValueError, KeyError, TypeError or OSError. A length that is not
    what was written may ask for more memory than there is; for a file that is whole, there is too little.
    """
    try:
        yield
    except HistoryError:
        raise
    except MemoryError as error:
        if _is_named_by_its_sha256(path):
            raise
        raise DamagedData(
            f"{path}: {what} cannot be read, it asks for too much memory. Run hist verify; restore it from a copy."
        ) from error
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError) as error:
        if isinstance(error, OSError) and error.errno in NOT_DAMAGE:
            raise
        reason = " ".join(str(error).split())
        raise DamagedData(
            f"{path}: {what} cannot be read, {reason}. Run hist verify; restore it from a copy."
        ) from error


def _is_named_by_its_sha256(path: Path) -> bool:
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest() == path.name.partition(".")[0]
