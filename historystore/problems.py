"""A problem in a store, with its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict

from historystore.errors import HistoryError


class Problem(BaseModel):
    """What is wrong with one file of a store, and where in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    """Relative to the store."""
    field: str | None = None
    """The step field, or the table, that the damage lies in; None where it concerns the whole file."""
    rows: tuple[int, int] | None = None
    """Half-open, counted in the field or table."""
    message: str
    is_note: bool = False
    """Worth knowing, but the store keeps its promises."""

    def __str__(self) -> str:
        """Return the place and what is wrong there, in one line."""
        rows = f"rows {self.rows[0]} to {self.rows[1]}" if self.rows else None
        return ": ".join([", ".join(part for part in (self.file, self.field, rows) if part), self.message])


@contextmanager
def guarded(problems: list[Problem], file: str, field: str | None = None) -> Iterator[None]:
    """Turn whatever a file's bytes provoke into a problem, so that one damaged file never hides the next."""
    try:
        yield
    except HistoryError as error:
        problems.append(Problem(file=file, field=field, message=_message(error, file)))
    except Exception as error:  # noqa: BLE001 - damaged bytes may raise anything in the libraries that parse them
        problems.append(Problem(file=file, field=field, message=_unreadable(error)))


def _message(error: HistoryError, file: str) -> str:
    """Return an error's message without its place, which the problem has, and without the advice to verify."""
    if isinstance(error.__cause__, Exception):
        return _unreadable(error.__cause__)
    text = str(error)
    return text.partition(f"{file}: ")[2].replace(" Run hist verify.", "").replace("Run hist verify; r", "R") or text


def _unreadable(error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"cannot be read, {reason}. Restore it from a copy."
