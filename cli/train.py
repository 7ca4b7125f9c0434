"""`hist train`: a store's histories, distilled into a transformer."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from distill.config import TrainConfig
from distill.preset_files import preset, presets
from historystore.errors import InvalidValue

from .output import progress_console
from .places import STORE

if TYPE_CHECKING:
    from distill import TrainProgress

_LOG_S = 30.0
_DEFAULTS = TrainConfig()


def _settings_page() -> str:
    """Return every name that --set takes, its default and its meaning, for the help page."""
    rows = [f"  {name:<22} {_shown(default):<15} {meaning}" for name, default, meaning in TrainConfig.settings()]
    settings = ["\b", "Settings for --set, and their defaults:", *rows]
    return "\n".join([*_presets_page(), "", *settings])


def _presets_page() -> list[str]:
    """Return the lines that say which presets there are, each with the first sentence of its description."""
    firsts = {name: preset(name).description.partition(". ")[0].rstrip(".") for name in presets()}
    return ["\b", "Presets for --preset:", *(f"  {name:<23} {first}" for name, first in firsts.items())]


def _shown(value: object) -> str:
    """Return a value as `--set` takes it: a stride as a range, other tuples as JSON lists."""
    if isinstance(value, tuple):
        is_range = all(isinstance(part, int) for part in value)
        return "-".join(map(str, value)) if is_range else json.dumps(value, separators=(",", ":"))
    return "none" if value is None else str(value)


@click.command(epilog=_settings_page(), context_settings={"max_content_width": 120})
@click.argument("stores", metavar="STORE...", nargs=-1, required=True, type=STORE)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The run's directory; made if absent.")
@click.option(
    "--method",
    type=click.Choice(["ad", "ed"]),
    help="ad distills how learners learn; ed, the control, only how they end.  [default: ad]",
)
@click.option(
    "--preset", "preset_name", metavar="NAME", help="Settings under a name, see below; other options override them."
)
@click.option("--updates", type=int, help=f"Optimiser steps.  [default: {_DEFAULTS.updates}]")
@click.option("--seed", type=int, help="Of weights, windows and masking.  [default: 0]")
@click.option("--split-seed", type=int, help="Which tasks train, validate and test.  [default: 0]")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any setting below; may be repeated.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--json", "is_json", is_flag=True, help="Progress and result as JSON lines on stdout.")
def command(
    stores: tuple[Path | str, ...],
    out: Path,
    preset_name: str | None,
    assignments: tuple[str, ...],
    quiet: bool,
    is_json: bool,
    **options: str | int | None,
) -> None:
    """Distill a store's histories into a transformer that learns in its context.

    The transformer reads windows of many episodes out of the histories and learns to foretell each next action. To
    foretell a learner that improves it has to improve: on a task that it never saw it tries, remembers within its
    context, and gets better, its weights untouched. `hist evaluate` shows it.

    Tasks are split three ways by --split-seed; the run keeps the split, and no window of a test task is ever read.
    Killed or interrupted, the same command goes on where it stopped and ends in the same weights.

    \b
    Examples:
      hist train darkroom-ppo --out run
      hist train darkroom-ppo --out control --method ed
      hist train darkroom-ppo --out paper --preset paper-darkroom --updates 10000
      hist train darkroom-ppo --out wide --updates 4000 --set width=128 --set episode_stride=10-30
    """
    from distill.training import train

    values = {name: value for name, value in options.items() if value is not None}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidValue(f"--set: expected name=value, got {text!r}. Write it like --set learning_rate=1e-3.")
        values[name.strip()] = value.strip()
    config = _DEFAULTS.with_values(values) if preset_name is None else preset(preset_name).config(values)
    show = _JsonLines(out) if is_json else _Terminal(out, is_quiet=quiet)
    with _signals() as stopping, closing(train(stores, out, config)) as updates:
        last = _followed(updates, show, stopping)
    if stopping and (last is None or last.update < last.num_updates):
        click.echo(f"Interrupted: {out} is saved. The same command goes on.", err=True)
        raise click.exceptions.Exit(128 + stopping[0])
    show.done(last)


def _followed(
    updates: Generator[TrainProgress, None, None], show: _JsonLines | _Terminal, stopping: list[int]
) -> TrainProgress | None:
    """Follow the updates to their end, or to the first after a signal; return the last."""
    last = None
    with show:
        for last in updates:
            show.update(last)
            if stopping:
                break
    return last


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Note the first SIGINT or SIGTERM instead of stopping in the middle of an update; a second one stops at once."""
    arrived: list[int] = []
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for name in before:
        signal.signal(name, note)
    try:
        yield arrived
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


class _JsonLines:
    """Every update as a JSON line on stdout."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def __enter__(self) -> _JsonLines:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, progress: TrainProgress) -> None:
        """Print an update."""
        self._print("update", progress.scalars() | {"update": progress.update, "num_updates": progress.num_updates})

    def done(self, last: TrainProgress | None) -> None:
        """Print where the run is."""
        self._print("complete", {"run": str(self._out), "was_complete": last is None})

    def _print(self, event: str, content: Mapping[str, object]) -> None:
        click.echo(json.dumps({"event": event, **content}, allow_nan=False))


class _Terminal:
    """Progress for people on stderr, the result on stdout."""

    def __init__(self, out: Path, *, is_quiet: bool) -> None:
        self._out, self._is_quiet = out, is_quiet
        self._console = progress_console()
        self._is_live = self._console.is_terminal and not is_quiet
        self._bar = Progress(
            MofNCompleteColumn(),
            BarColumn(bar_width=30),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self._console,
        )
        self._task = self._bar.add_task("reading the store", total=None)
        self._logged, self._has_begun = time.monotonic(), False
        self._validation = ""

    def __enter__(self) -> _Terminal:
        if self._is_live:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_live:
            self._bar.stop()

    def update(self, progress: TrainProgress) -> None:
        """Say how far it is: on a terminal in place, elsewhere as a line twice a minute and at each validation."""
        if not self._has_begun and progress.update > 1 and not self._is_quiet:
            self._console.print(f"{self._out}: goes on after update {progress.update - 1:,}")
        self._has_begun = True
        if progress.validation is not None:
            self._validation = f"  validation loss {progress.validation.loss:.3f}"
            if progress.validation.last_return is not None:
                self._validation += f", return {progress.validation.last_return:.2f}"
        text = f"loss {progress.loss:.3f}  {progress.tokens_per_s:,.0f} tokens/s{self._validation}"
        if self._is_live:
            self._bar.update(self._task, total=progress.num_updates, completed=progress.update, description=text)
        is_due = progress.validation is not None or time.monotonic() - self._logged >= _LOG_S
        if is_due and not self._is_live and not self._is_quiet:
            self._logged = time.monotonic()
            click.echo(f"{progress.update:,}/{progress.num_updates:,} updates  {text}", err=True)

    def done(self, last: TrainProgress | None) -> None:
        """Say where the run is and what comes next."""
        if last is None:
            click.echo(f"{self._out}: is complete already.")
        else:
            click.echo(f"{self._out}: {last.num_updates:,} updates, loss {last.loss:.3f}{self._validation}")
        click.echo(f"next: hist evaluate {self._out}")
