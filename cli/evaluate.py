"""`hist evaluate`: a trained transformer, learning in its context."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from historystore.documents import canonical_json
from historystore.recording.hyperparameters import parse_assignment

from .charts import count
from .output import answers, print_json, progress_console

if TYPE_CHECKING:
    from distill import Evaluation
    from distill.results import Interval, PartResult
    from historystore.splits import Part

_SHOWN = (1, 2, 3, 5, 7, 10, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300, 500, 750)


@click.command(context_settings={"show_default": True})
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--split",
    "parts",
    multiple=True,
    type=click.Choice(["test", "validation", "train"]),
    show_default="test and train, or none beside --fresh",
    help="Which tasks; may be repeated.",
)
@click.option("--fresh", "num_fresh", metavar="N", default=0, help="N tasks drawn anew, which no store holds.")
@click.option(
    "--env-arg",
    "env_assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument of the family that shall differ from the run's stores; may be repeated.",
)
@click.option("--episodes", "num_episodes", default=50, help="Episodes of a rollout; any number beyond the context.")
@click.option("--rollouts", "num_rollouts", default=8, help="Rollouts of each task, each from an empty context.")
@click.option("--seed", default=0, help="Of the sampled actions.")
@click.option("--compare", type=click.Path(path_type=Path), help="Another run, put on the same tasks: a control.")
@click.option("--device", show_default="a GPU if there is one", help="Where to run, such as cpu or cuda:1.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--json", "is_json", is_flag=True, help="Everything, every episode of every rollout, as JSON on stdout.")
def command(
    run: Path,
    compare: Path | None,
    parts: tuple[Part, ...],
    env_assignments: tuple[str, ...],
    quiet: bool,
    is_json: bool,
    **options: Any,
) -> None:
    """Let a run's transformer learn in its context on tasks that it was never trained on.

    Each rollout starts with an empty context and lives many episodes; actions are sampled, weights never change. If
    return rises from episode to episode, the transformer learns. The table holds it against its training tasks, its
    source at the same number of environment steps, the best possible and chance; intervals are 95 % bootstraps. The
    same numbers and a plot are written into the run's directory.

    Tasks of a family without end, such as bandits, are best drawn anew with --fresh; with --env-arg they may come from
    another distribution than the run was trained on.

    \b
    Examples:
      hist evaluate run
      hist evaluate run --split validation --episodes 100 --rollouts 20
      hist evaluate run --compare control
      hist evaluate run --fresh 100 --env-arg distribution=even
      hist evaluate run --json > evaluation.json
    """
    from distill import evaluate, load_run
    from distill.evaluation import why_no_tasks
    from distill.report import write_report
    from historystore.files import check_folder

    loaded = load_run(run)
    check_folder(run)  # before the work, not after it
    other = None if compare is None else load_run(compare)
    options["env_args"] = dict(parse_assignment(text, option="--env-arg") for text in env_assignments)
    with _Bars(is_shown=not quiet) as bars:
        evaluation = evaluate(loaded, parts=parts or None, compare=other, on_progress=bars.show, **options)
    path, plot = write_report(run, evaluation)
    if is_json:
        print_json(evaluation)
        return
    console = answers()
    for name, part in evaluation.parts().items():
        if name != "train" or len(evaluation.parts()) == 1:
            console.print(_tasks_table(name, part))
    console.print(_episodes_table(evaluation))
    if not parts and evaluation.test is None and evaluation.fresh is None:
        console.print(f"Nothing is held out: {why_no_tasks(loaded.document.split, 'test')}.", soft_wrap=True)
    if not evaluation.is_complete:
        console.print(f"The training is not complete: weights after {evaluation.num_updates:,} updates.")
    console.print(f"numbers: {path}\nplot:    {plot}", soft_wrap=True)


class _Bars:
    """A bar on stderr for each part that is rolled out."""

    def __init__(self, *, is_shown: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), TimeRemainingColumn())
        console = progress_console()
        self._progress = Progress(*columns, console=console, disable=not (is_shown and console.is_terminal))
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, name: str, share: float) -> None:
        """Move a bar, or begin it."""
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=1.0)
        self._progress.update(self._bars[name], completed=share)


def _tasks_table(name: str, part: PartResult) -> Table:
    """Return one row a task."""
    title = f"{count(part.num_tasks, f'{name} task')}: mean return of the first 3 and the last 10 episodes"
    table = _table(title, ("task", "first", "last", "95 % interval", "source", "its end", "random", "best"))
    for result in part.tasks:
        label = " ".join(f"{key}={canonical_json(value).decode()}" for key, value in result.task.items())
        source = result.source_return_by_episode[-1]
        cells = (_number(result.first_return), _number(result.last_return), _interval(result.last_interval))
        bounds = (source, result.source_last_return, result.random_return, result.best_return)
        table.add_row(label or "the only one", *cells, *map(_number, bounds))
    return table


def _episodes_table(evaluation: Evaluation) -> Table:
    """Return the mean return by episode, a column for each part and for each thing it is held against."""
    title = f"{evaluation.world}: return by episode in context, {evaluation.num_rollouts} rollouts a task"
    last = evaluation.num_episodes
    episodes = [*(number for number in _SHOWN if number < last), last]
    columns = {"episode": [*map(str, episodes), "last 10"]}
    name = evaluation.method.upper()
    for part, result in evaluation.parts().items():
        cells = [_number(result.return_by_episode[i - 1]) for i in episodes]
        columns[f"{name}, {part}"] = [*cells, _number(result.last_return)]
    main, result = next(iter(evaluation.parts().items()))
    intervals = [*(result.interval_by_episode[i - 1] for i in episodes), result.last_interval]
    means = columns[f"{name}, {main}"]
    columns[f"{name}, {main}"] = [
        f"{mean} {_interval(interval)}" for mean, interval in zip(means, intervals, strict=True)
    ]
    if evaluation.compared is not None:
        other = evaluation.compared.parts()[main]
        cells = [_number(other.return_by_episode[i - 1]) for i in episodes]
        columns[f"{evaluation.compared_label}, {main}"] = [*cells, _number(other.last_return)]
    source = [_number(result.source_return_by_episode[i - 1]) for i in episodes]
    columns["source"] = [*source, ""]
    for heading, bound in (("random", result.random_return), ("best", result.best_return)):
        columns[heading] = [_number(bound)] * (len(episodes) + 1)
    table = _table(title, tuple(columns))
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _table(title: str, headings: Sequence[str]) -> Table:
    caption = "source: the learner that was distilled, from scratch, at the same number of environment steps"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", box=None)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _interval(interval: Interval) -> str:
    return f"[{interval.low:.2f}, {interval.high:.2f}]"
