"""What `hist import` and `hist export` share: the limits in their help, the progress, the report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

import click

from historystore.exchange import ExchangeReport, Progress

from .output import answers, print_json, progress_console


def limits(names: Sequence[str], lost: Callable[[str], tuple[str, ...]]) -> str:
    """Return the part of a help page that says what each format cannot hold."""
    blocks = []
    for name in names:
        lines = click.wrap_text("\n\n".join(lost(name)), width=74, preserve_paragraphs=True).split("\n\n")
        bullets = ["- " + line.replace("\n", "\n  ") for line in lines]
        blocks.append("\n".join(["\b", f"What is lost, {name}:", *("  " + b.replace("\n", "\n  ") for b in bullets)]))
    return "\n\n".join(blocks)


def show(states: Iterator[Progress | ExchangeReport], *, is_json: bool, verb: str) -> None:
    """Follow an import or export to its end and print the report."""
    report = _followed(states, verb)
    if is_json:
        print_json(report)
        return
    console = answers()
    for kind, lines in (("lost", report.lost), ("note", report.notes)):
        for line in lines:
            console.print(f"{kind}: {line}", markup=False, soft_wrap=True)
    skipped = f", {report.num_skipped:,} skipped (there already)" if report.num_skipped else ""
    console.print(
        f"{report.source} -> {report.target} ({report.format}): {report.num_learners:,} learners, "
        f"{report.num_steps:,} steps{skipped}",
        markup=False,
        soft_wrap=True,
    )


def _followed(states: Iterator[Progress | ExchangeReport], verb: str) -> ExchangeReport:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeRemainingColumn())
    with Bar(*columns, console=progress_console(), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(verb, total=None)
        for state in states:
            if isinstance(state, ExchangeReport):
                return state
            bar.update(task, total=state.total_steps, completed=state.num_steps)
    raise AssertionError("the last state is the report")
