"""`hist record`: the training histories of many learners, into a store."""

from __future__ import annotations

import json
import shlex
import signal
import textwrap
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NoReturn

import click
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from historystore.recording import Progress, RecordPlan, RecordReport, plan_recording, run
from historystore.recording.algorithms import algorithms
from historystore.recording.hyperparameters import parse_assignment
from historystore.recording.plan import DEFAULT_SEAL_MB, DEFAULT_SEAL_S

from .charts import size
from .output import progress_console
from .places import STORE
from .record_help import HELP
from .worlds import completed, worlds

_LOG_S = 30.0
_MOST_FAILURES_SHOWN = 10
_LONGEST_ERROR = 240
"""Characters; torch prints whole tensors. The store has all of it."""


class _Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


@click.command(help=HELP, context_settings={"show_default": True})
@click.option(
    "--algo", metavar="NAME|MODULE:CLASS", required=True, shell_complete=completed(algorithms), help="What learns."
)
@click.option(
    "--engine",
    type=click.Choice(["sb3", "lockstep"]),
    show_default="the algorithm's own",
    help="What carries ppo, a2c or dqn out.",
)
@click.option("--env", metavar="NAME", required=True, shell_complete=completed(worlds), help="The world it learns in.")
@click.option(
    "--env-arg",
    "env_assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument of the world, such as size=13; may be repeated.",
)
@click.option("--seeds", required=True, help="Inclusive ranges, such as 0-99,205; a seed decides the task.")
@click.option("--out", type=STORE, show_default="<env>-<algo>", help="The store, a folder or URL; made if absent.")
@click.option("--steps", type=int, show_default="preset", help="A learner's steps, over all its streams.")
@click.option("--streams", type=int, show_default="preset", help="A learner's parallel environments.")
@click.option("--policy", show_default="preset", help="The policy's Stable-Baselines3 name.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="A hyperparameter by its Stable-Baselines3 name; may be repeated.",
)
@click.option("--fields", show_default="all", help="Optional step fields, such as log_prob,value.")
@click.option(
    "--checkpoints", metavar="final|every=N", help="Store each trained model; with every=N, go on from there if killed."
)
@click.option("--workers", type=int, show_default="one a core", help="Processes of one thread each.")
@click.option("--seal-mb", type=float, default=DEFAULT_SEAL_MB, help="Steps are on the disk after so many MiB of them,")
@click.option("--seal-s", type=float, default=DEFAULT_SEAL_S, help="or seconds, at the latest.")
@click.option("--format", type=click.Choice(["hdf5", "arrow"]), default="hdf5", help="Of the shards' files.")
@click.option(
    "--profile",
    type=click.Choice(["standard", "fast", "archive", "compat"]),
    show_default="standard, or fast for Arrow",
    help="What they are for; hist convert --help explains.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--json", "is_json", is_flag=True, help="Progress and report as JSON lines on stdout.")
@click.pass_context
def command(
    context: click.Context,
    /,
    assignments: tuple[str, ...],
    env_assignments: tuple[str, ...],
    fields: str | None,
    quiet: bool,
    is_json: bool,
    **options: Any,
) -> None:
    """Record learners as the options say, show how it goes, and fail where one of them failed."""
    options["set"] = dict(parse_assignment(text) for text in assignments)
    options["env_args"] = dict(parse_assignment(text, option="--env-arg") for text in env_assignments)
    options["fields"] = None if fields is None else [name.strip() for name in fields.split(",") if name.strip()]
    show = _JsonLines() if is_json else _Terminal(is_quiet=quiet)
    try:
        with _sigterm_raised(), _plain_warnings():
            plan = plan_recording(**options)
            report = _followed(plan, show)
    except KeyboardInterrupt as interruption:
        _interrupted(options, interruption)
    show.report(report)
    if report.failures:
        context.exit(1)


def _followed(plan: RecordPlan, show: _JsonLines | _Terminal) -> RecordReport:
    with closing(run(plan)) as states, show:
        for number, state in enumerate(states):
            if number == 0:  # its place can be written
                show.plan(plan)
            if isinstance(state, RecordReport):
                return state
            show.progress(state)
    raise AssertionError("the last state is the report")


def _interrupted(options: dict[str, Any], interruption: KeyboardInterrupt) -> NoReturn:
    """Say what is complete and leave with the exit code of the signal."""
    plan = plan_recording(**options)
    click.echo(
        f"Interrupted: {plan.num_skipped:,} of {len(plan.seeds):,} learners are complete in {plan.place}. "
        "The same command records the rest.",
        err=True,
    )
    raise click.exceptions.Exit(143 if isinstance(interruption, _Terminated) else 130)


class _JsonLines:
    """The plan, progress and report as JSON lines on stdout."""

    def __enter__(self) -> _JsonLines:
        return self

    def __exit__(self, *_: object) -> None: ...

    def plan(self, plan: RecordPlan) -> None:
        """Print what will be recorded."""
        self._print(
            "plan",
            {
                "store": str(plan.place),
                "num_skipped": plan.num_skipped,
                "num_without_checkpoint": plan.num_without_checkpoint,
                "num_retried": plan.num_retried,
                "num_added": plan.num_added,
                "learner": plan.template.model_dump(mode="json", exclude={"task", "seed"}),
            },
        )

    def progress(self, progress: Progress) -> None:
        """Print how far it is."""
        self._print("progress", progress.model_dump(mode="json"))

    def report(self, report: RecordReport) -> None:
        """Print what was recorded."""
        self._print("report", report.model_dump(mode="json"))

    def _print(self, event: str, content: dict[str, Any]) -> None:
        click.echo(json.dumps({"event": event, **content}, ensure_ascii=False, allow_nan=False))


class _Terminal:
    """Progress for people on stderr, the report on stdout."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._console = progress_console()
        self._is_live = self._console.is_terminal and not is_quiet
        self._bar = Bar(
            BarColumn(bar_width=30), TextColumn("{task.description}"), console=self._console, auto_refresh=False
        )
        self._task = self._bar.add_task("starting the workers", total=None)
        self._logged = time.monotonic()

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_live:
            self._bar.stop()

    def plan(self, plan: RecordPlan) -> None:
        """Say what will be recorded."""
        if not self._is_quiet:
            click.echo(_plan_text(plan), err=True)
        if self._is_live and plan.todo:
            self._bar.start()

    def progress(self, progress: Progress) -> None:
        """Say how far it is: on a terminal in place, elsewhere as a line twice a minute."""
        text = _progress_text(progress)
        if self._is_live:
            total, done = progress.num_steps_planned, progress.num_steps
            self._bar.update(self._task, total=total, completed=min(done, total), description=text)
            self._bar.refresh()
        elif not self._is_quiet and time.monotonic() - self._logged >= _LOG_S:
            self._logged = time.monotonic()
            click.echo(text, err=True)

    def report(self, report: RecordReport) -> None:
        """Say what was recorded, and which learners failed."""
        for line in _failure_lines(report):
            click.echo(line, err=True)
        click.echo(_report_text(report))


def _plan_text(plan: RecordPlan) -> str:
    spec = plan.template
    num_streams = f"{spec.num_streams} stream{'s' if spec.num_streams > 1 else ''}"
    args = ", ".join(f"{name}={value}" for name, value in spec.env_args.items())
    world = f"{spec.family} ({args})" if args else spec.family
    lines = [
        f"{plan.place}: {len(plan.seeds):,} {spec.algorithm} learners on {world}, "
        f"{spec.num_steps:,} steps each over {num_streams}",
        f"  skips {plan.num_skipped:,} (complete), retries {plan.num_retried:,} (partial or failed), "
        f"adds {plan.num_added:,}; {plan.num_workers} worker{'s' if plan.num_workers > 1 else ''}",
    ]
    if plan.num_without_checkpoint:
        lines.append(
            f"  {plan.num_without_checkpoint:,} of the complete learners have no checkpoint and get none; "
            "record them into another store for that"
        )
    if spec.num_steps != plan.num_steps_asked:
        asked = f"{plan.num_steps_asked:,}"
        lines.append(f"  {spec.num_steps:,} steps instead of {asked}: {spec.algorithm} lives whole rollouts")
    return "\n".join(lines)


def _progress_text(progress: Progress) -> str:
    if not progress.num_workers and not progress.num_steps:
        return "starting the workers"
    parts = [
        f"{progress.num_done:,}/{progress.num_learners:,} learners",
        f"{progress.steps_per_s:,.0f} env-steps/s",
        f"{_duration(progress.seconds_left)} left",
        size(progress.num_bytes),
    ]
    return "  ".join([*parts, f"{progress.num_failed:,} failed"] if progress.num_failed else parts)


def _report_text(report: RecordReport) -> str:
    counts = report.learners
    nothing = "nothing" if report.failures else "nothing, all is complete"
    rows = {
        "store": report.store,
        "digest": report.digest,
        "learners": f"{counts.complete:,} complete, {counts.partial:,} partial, {counts.failed:,} failed",
        "steps": f"{report.num_steps:,}",
        "bytes": f"{size(report.num_bytes)}, {report.num_bytes / max(report.num_steps, 1):.2f} a step",
        "recorded": f"{report.num_steps_recorded:,} steps in {_duration(report.seconds)}, "
        f"{report.steps_per_s:,.0f} env-steps/s"
        if report.num_steps_recorded
        else nothing,
        **({"continued": f"{report.num_continued:,} from their checkpoints"} if report.num_continued else {}),
        "next": f"hist inspect {shlex.quote(report.store)}",
    }
    return "\n".join(f"{name:<9} {value}" for name, value in rows.items())


def _failure_lines(report: RecordReport) -> Iterator[str]:
    if report.failures:
        num_failed = len(report.failures)
        yield f"{num_failed:,} learner{'s' if num_failed > 1 else ''} failed; the same command tries again:"
    for failure in report.failures[:_MOST_FAILURES_SHOWN]:
        yield f"  seed {failure.seed}: {textwrap.shorten(failure.error, _LONGEST_ERROR, placeholder=' ...')}"
    if len(report.failures) > _MOST_FAILURES_SHOWN:
        yield f"  and {len(report.failures) - _MOST_FAILURES_SHOWN:,} more"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


@contextmanager
def _sigterm_raised() -> Iterator[None]:
    """Let SIGTERM interrupt as Ctrl-C does."""

    def interrupt(*_: object) -> NoReturn:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print warnings as one line without the place in our code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: click.echo(f"Warning: {message}", err=True)
        yield
