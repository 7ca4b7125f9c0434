"""The bar that long operations on stores draw on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Protocol, TypeVar

from .output import progress_console


class Step(Protocol):
    """How far an operation is."""

    @property
    def done(self) -> int:
        """How much of it is done."""

    @property
    def total(self) -> int:
        """How much there is to do."""


StepT = TypeVar("StepT", bound=Step)


def shown(steps: Iterator[StepT], *, verb: str) -> Iterator[StepT]:
    """Give an operation's steps, and draw how far it is; nothing is drawn where stderr is no terminal."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn(verb), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=progress_console(), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(verb, total=None)
        for step in steps:
            progress.update(task, total=step.total, completed=step.done)
            yield step
