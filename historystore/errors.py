# ruff: noqa: N818 - an error is named after what is wrong
"""What can go wrong, as one tree.

Each concrete error is also the builtin it refines, so that code which knows nothing of this package can catch it::

    HistoryError
    ├── InvalidValue   (ValueError)         a bad argument, specification, hyperparameter, seed range or name
    ├── StoreNotFound  (FileNotFoundError)  nothing is at the path
    ├── NotAStore      (ValueError)         something is at the path, but no store and no shard
    ├── NewerFormat    (ValueError)         written by a later version of the format than this one reads
    ├── OlderFormat    (ValueError)         written in an earlier version of the format, to be migrated first
    ├── DamagedData    (ValueError)         a file of a store does not hold what was written to it
    ├── SpaceMismatch  (ValueError)         the store has another family, or other spaces
    ├── MissingField   (KeyError)           a history lacks a field that was asked for
    ├── WriteFailed    (OSError)            the disk or server refused: full, read-only, or not ours
    ├── Unreachable    (ConnectionError)    the server of a remote store does not answer, or refuses to read
    └── MissingExtra   (ImportError)        an optional package is not installed

A message reads ``where: what is wrong, expected, got. What to do.``
"""


class HistoryError(Exception):
    """Any error that this package raises on purpose."""

    def __str__(self) -> str:
        """Return the plain message, also where the builtin refined would quote it or show an errno."""
        return str(self.args[0]) if self.args else ""


class InvalidValue(HistoryError, ValueError):
    """A caller's argument, specification, hyperparameter, seed range or name is not acceptable."""


class StoreNotFound(HistoryError, FileNotFoundError):
    """Nothing is at the path."""


class NotAStore(HistoryError, ValueError):
    """Something is at the path, but it is neither a store nor a shard."""


class NewerFormat(HistoryError, ValueError):
    """A file needs a later version of this package."""


class OlderFormat(HistoryError, ValueError):
    """A store has to be migrated before this version does what was asked."""


class DamagedData(HistoryError, ValueError):
    """A file of a store does not hold what was written to it."""


class SpaceMismatch(HistoryError, ValueError):
    """A store has another family or other spaces than those asked for."""


class MissingField(HistoryError, KeyError):
    """A history lacks a field that was asked for."""


class WriteFailed(HistoryError, OSError):
    """The disk or server refused a write; whatever was acknowledged before is untouched."""


class Unreachable(HistoryError, ConnectionError):
    """The server of a remote store does not answer, or refuses to be read."""


class MissingExtra(HistoryError, ImportError):
    """An optional package is not installed."""
