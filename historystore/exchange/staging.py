"""Files and folders of foreign formats that appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from historystore.errors import HistoryError, InvalidValue, WriteFailed


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Give an absolute place of the same name in a hidden folder beside `out`; what is there becomes `out` at the end.

    Raises:
        InvalidValue: something is at `out`.
        WriteFailed: the disk refused.
    """
    if out.exists():
        raise InvalidValue(f"{out}: is there already. Choose another place, or remove it.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent.absolute(), prefix=f".{out.name}-") as folder:
            place = Path(folder) / out.name
            yield place
            shutil.move(place, out)
    except HistoryError:
        raise
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WriteFailed(f"{out}: cannot be written, {reason}. Look at the disk and run the same again.") from error
