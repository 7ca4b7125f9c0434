"""What `hist inspect` shows: one function for each view, from a summary to lines of text."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, JsonValue
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from historystore.curves import Curve
from historystore.documents import canonical_json
from historystore.episode_summary import EpisodeSummary, Step
from historystore.learner_summary import LearnerLine, LearnerSummary, TaskSummary, task_text
from historystore.summary import LearnerCounts, ProvenanceSummary, StoreList, StoreSummary

from .charts import LEVELS, MISSING, bounds, count, last_known, number, percent, size, sparkline

MAX_ROWS = 50
"""Longer tables are cut; `--json` has them whole."""

ID_LENGTH = 8
CURVE_WIDTH = 48
LINE_WIDTH = 24

STATUS_STYLES = {"complete": "", "partial": "yellow", "failed": "red"}


def view(document: BaseModel, path: Path | str) -> RenderableType:
    """Render any summary of what lies at a path."""
    if isinstance(document, StoreList):
        return stores_view(document)
    if isinstance(document, StoreSummary):
        return store_view(document)
    if isinstance(document, TaskSummary):
        return task_view(path, document)
    if isinstance(document, LearnerSummary):
        return learner_view(path, document)
    assert isinstance(document, EpisodeSummary)
    return episode_view(path, document)


def stores_view(stores: StoreList) -> RenderableType:
    """Render the stores of a folder, and how to look into the first one."""
    if not stores.stores:
        start = ["hist record --algo ppo --env darkroom --seeds 0-99"]
        return Group(Text("No stores in this folder."), "", _next(start))
    table = _table("store", "family", ">learners", ">episodes", ">steps", ">size")
    for line in stores.stores:
        if line.learners is None:
            table.add_row(line.path, Text("cannot be opened", style="red"), *[MISSING] * 4)
            continue
        num_learners = line.learners.complete + line.learners.partial + line.learners.failed
        counts = (num_learners, line.num_episodes, line.num_steps)
        table.add_row(line.path, line.family, *map(count, counts), size(line.num_bytes))
    problems = [Text(line.problem, style="red") for line in stores.stores if line.problem]
    first = next((line for line in stores.stores if not line.problem), stores.stores[0])
    command = "verify" if first.problem else "inspect"
    return _page(table, *([Group(*problems)] if problems else []), _next([f"hist {command} {_quoted(first.path)}"]))


def store_view(store: StoreSummary) -> RenderableType:
    """Render a store at a glance."""
    name = _quoted(store.path)
    task = store.example_task
    hints = [f"hist inspect {name} --task {shlex.quote(task_text(task))}"] if task is not None else []
    return _page(
        _title(store.path, f"{store.family} · format {store.format_version}"),
        _facts(
            ("learners", _learner_counts(store.learners)),
            ("algorithms", " · ".join(f"{num:,} {algorithm}" for algorithm, num in store.algorithms.items()) or "none"),
            ("tasks", count(store.num_tasks)),
            ("histories", count(store.num_histories)),
            ("episodes", count(store.num_episodes)),
            ("steps", count(store.num_steps)),
            ("size", _store_size(store)),
        ),
        _store_curve(store),
        _field_table(store),
        _provenance(store.provenance),
        _facts(("digest", store.digest)),
        _next([*hints, f"hist verify {name}"]),
    )


def task_view(path: Path | str, task: TaskSummary) -> RenderableType:
    """Render a task and its learners."""
    title = _title(task_text(task.task) if task.task else "the only task", f"{task.family} · {path}")
    table = _table("learner", "algorithm", ">seed", "status", ">steps", ">return", "along training")
    low, high = bounds(*(line.curve.median for line in task.learners if line.curve))
    for line in task.learners[:MAX_ROWS]:
        table.add_row(*_learner_cells(line, low=low, high=high))
    best = max(task.learners, key=lambda line: float("-inf") if line.final_return is None else line.final_return)
    return _page(
        title,
        _curve(task.curve, best=task.best_return, random=task.random_return, over="learner"),
        Group(table, *_cut(len(task.learners))),
        _next([f"hist inspect {_quoted(path)} --learner {best.id[:ID_LENGTH]}"]),
    )


def learner_view(path: Path | str, learner: LearnerSummary) -> RenderableType:
    """Render one learner: its curve, updates and settings."""
    status = Text(learner.status, style=STATUS_STYLES[learner.status])
    if learner.error:
        status.append(f": {learner.error}")
    hints = [f"hist inspect {_quoted(path)} --learner {learner.id[:ID_LENGTH]} --episode -1"]
    origin = learner.provenance
    return _page(
        _title(f"learner {learner.id[:ID_LENGTH]}", f"{learner.algorithm} on {learner.family} · {path}"),
        _facts(
            ("status", status),
            ("task", task_text(learner.task) if learner.task else "the only one"),
            ("seed", "none" if learner.seed is None else str(learner.seed)),
            ("streams", count(learner.num_streams)),
            ("steps", f"{learner.num_steps:,} of {learner.planned_steps:,} planned"),
            ("episodes", count(learner.num_episodes)),
            ("updates", count(learner.num_updates)),
            ("return", _final_return(learner)),
        ),
        _curve(learner.curve, best=learner.best_return, random=learner.random_return, over="stream"),
        _update_table(learner),
        _settings(learner),
        _facts(
            ("engine", f"{origin.engine} {origin.engine_version}, {origin.algorithm_path}"),
            ("environment", origin.environment),
            ("versions", _pairs(origin.versions)),
            ("git commit", origin.git_commit or "none"),
            ("recorded", f"{_time(learner.started)} to {_time(learner.ended)} on {origin.host}"),
            *_attempts(learner),
            ("checkpoint", _checkpoint(learner)),
            ("id", learner.id),
            ("digest", learner.digest),
        ),
        _next(hints if learner.num_episodes else []),
    )


def episode_view(path: Path | str, episode: EpisodeSummary) -> RenderableType:
    """Render one episode's steps, drawn where its family knows how."""
    place = f"hist inspect {_quoted(path)} --learner {episode.learner[:ID_LENGTH]}"
    other = episode.episode + 1 if episode.episode + 1 < episode.num_episodes else 0
    stream = f" --stream {episode.stream}" if episode.num_streams > 1 else ""
    ended = "terminated" if episode.terminated else "truncated" if episode.truncated else "cut, its learner stopped"
    return _page(
        _title(
            f"episode {episode.episode} of {episode.num_episodes}",
            f"learner {episode.learner[:ID_LENGTH]} · stream {episode.stream} · {path}",
        ),
        _facts(
            ("task", task_text(episode.task) if episode.task else "the only one"),
            ("return", number(episode.return_)),
            ("steps", f"{episode.length:,}, from step {episode.first_step:,} of the history"),
            ("end", ended),
            *([("seed", str(episode.seed))] if episode.seed is not None else []),
        ),
        *([Text(episode.drawing)] if episode.drawing else []),
        _step_table(episode),
        _next([f"{place}{stream} --episode {other}"]),
    )


def _page(*blocks: RenderableType) -> RenderableType:
    """Stack blocks with one empty line between them."""
    spaced: list[RenderableType] = []
    for block in blocks:
        spaced += [block, ""]
    return Group(*spaced[:-1])


def _title(name: str, about: str) -> Text:
    return Text.assemble((name, "bold"), "   ", (about, "dim"))


def _facts(*pairs: tuple[str, str | Text]) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", min_width=11, no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in pairs:
        grid.add_row(label, value)
    return grid


def _table(*names: str) -> Table:
    """Return a table without lines; a name that begins with > is a right-aligned column."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for name in names:
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", no_wrap=True)
    return table


def _next(commands: Sequence[str]) -> RenderableType:
    """Render commands on lines of their own, never wrapped, so that they can be copied."""
    lines = [Text(f"  {command}", style="cyan", no_wrap=True, overflow="ignore") for command in commands]
    return Group(Text("next", style="dim"), *lines) if lines else Group()


def _learner_counts(learners: LearnerCounts) -> Text:
    total = learners.complete + learners.partial + learners.failed
    text = Text(f"{total:,}: {learners.complete:,} complete")
    for status, num in (("partial", learners.partial), ("failed", learners.failed)):
        if num:
            text.append(" · ").append(f"{num:,} {status}", style=STATUS_STYLES[status])
    return text


def _store_size(store: StoreSummary) -> str:
    each = "" if store.bytes_per_step is None else f" · {store.bytes_per_step:.2f} bytes a step"
    return f"{size(store.num_bytes)} in {count(store.num_shards, 'shard')}{each}"


def _store_curve(store: StoreSummary) -> RenderableType:
    ended = store.convergence
    curve = _curve(store.curve, best=ended.best_return, random=ended.random_return, over="learner")
    if not ended.num_known:
        return curve
    share = ended.num_reached / ended.num_known
    reached = f"{ended.num_reached:,} of {ended.num_known:,} learners ({percent(share)}) ended at or above"
    return Group(curve, Text(f"{reached} {percent(ended.share_of_best)} of their task's best."))


def _curve(curve: Curve | None, *, best: float | None, random: float | None, over: str) -> RenderableType:
    """Render the quartiles of a learning curve on one scale, with both axes labelled."""
    if curve is None:
        return Text("No episode has ended yet.")
    num_members = max(curve.num_members)
    rows = [
        ("upper quartile", curve.upper_quartile),
        ("median", curve.median),
        ("lower quartile", curve.lower_quartile),
    ]
    if num_members == 1:
        rows = [("return", curve.median)]
    low, high = bounds(*(values for _, values in rows))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    for label, values in rows:
        line = sparkline(values, low=low, high=high, width=CURVE_WIDTH)
        grid.add_row(label, line, number(last_known(values)))
    grid.add_row("", Text(_axis(curve, width=len(line)), style="dim"), "")
    title = "Return along training" + (f", over {count(num_members, over)}" if num_members > 1 else "")
    known = [
        f"{name} {number(value)}" for name, value in (("best possible", best), ("random", random)) if value is not None
    ]
    scale = " · ".join([f"{LEVELS[0]} {number(low)} to {LEVELS[-1]} {number(high)}", *known])
    return Group(Text(title, style="bold"), grid, Text(scale, style="dim"))


def _axis(curve: Curve, *, width: int) -> str:
    """Label the two ends of a curve: steps where all trainings have as many, shares of training where not."""
    if curve.min_steps == curve.max_steps:
        start, end = "0", f"{curve.max_steps:,} steps"
    else:
        start, end = "0 %", f"100 % of {curve.min_steps:,} to {curve.max_steps:,} steps"
    return start + f"{end:>{width - len(start)}}"


def _field_table(store: StoreSummary) -> RenderableType:
    table = _table("field", "dtype", "stored as", "shape of a step")
    for field in store.fields:
        shape = " x ".join(map(str, field.shape)) or MISSING
        table.add_row(field.name, np.dtype(field.dtype).name, np.dtype(field.stored_dtype).name, shape)
    return table


def _provenance(origin: ProvenanceSummary) -> RenderableType:
    versions = {name: " and ".join(found) for name, found in origin.versions.items()}
    return _facts(
        ("engine", ", ".join(origin.engines) or "none"),
        ("versions", _pairs(versions)),
        ("git commit", ", ".join(origin.git_commits) or "none"),
        ("recorded", f"{_time(origin.first_started)} to {_time(origin.last_ended)}"),
    )


def _final_return(learner: LearnerSummary) -> str:
    ended = f"{number(learner.final_return)} at the end"
    best = f" · best possible {number(learner.best_return)}" if learner.best_return is not None else ""
    return ended + best


def _learner_cells(line: LearnerLine, *, low: float, high: float) -> list[str | Text]:
    curve = sparkline(line.curve.median, low=low, high=high, width=LINE_WIDTH) if line.curve else ""
    return [
        line.id[:ID_LENGTH],
        line.algorithm,
        MISSING if line.seed is None else str(line.seed),
        Text(line.status, style=STATUS_STYLES[line.status]),
        count(line.num_steps),
        number(line.final_return),
        Text(curve, style="cyan"),
    ]


def _update_table(learner: LearnerSummary) -> RenderableType:
    table = _table("logged after each update", "", ">first", ">last")
    for curve in learner.updates:
        low, high = bounds(curve.binned)
        line = Text(sparkline(curve.binned, low=low, high=high, width=LINE_WIDTH), style="cyan")
        table.add_row(curve.name, line, number(curve.first), number(curve.last))
    return table if learner.updates else Text("No update logged.")


def _settings(learner: LearnerSummary) -> RenderableType:
    settings = {"policy": learner.policy, **learner.hyperparameters, **learner.env_args}
    return Group(Text("Settings", style="bold"), Text(_pairs(settings)))


def _attempts(learner: LearnerSummary) -> Iterable[tuple[str, str]]:
    """Tell the attempts apart where one continues another."""
    if len(learner.attempts) > 1:
        lines = [
            f"from step {line.first_step:,} {_time(line.started)} on {line.host}, {line.environment}"
            for line in learner.attempts
        ]
        yield "attempts", "\n".join(lines)


def _checkpoint(learner: LearnerSummary) -> str:
    if learner.checkpoint is None:
        return "none"
    step = learner.checkpoint_step
    what = "the model at the end" if step is None else f"goes on from step {step:,}"
    return f"{learner.checkpoint}, {what}"


def _step_table(episode: EpisodeSummary) -> RenderableType:
    flags = {"terminated", "truncated"}
    names = [name for name in (episode.steps[0].values if episode.steps else {}) if name not in flags]
    table = _table(">step", *(f">{name}" for name in names))
    for step in episode.steps[:MAX_ROWS]:
        table.add_row(str(step.step), *(_cell(step, name) for name in names))
    if len(episode.steps) <= MAX_ROWS:
        last = [_short(episode.final_observation.get(name)) for name in names]
        table.add_row("end", *last, style="dim")
    return Group(table, *_cut(len(episode.steps)))


def _cell(step: Step, name: str) -> str:
    value = step.values[name]
    return number(value) if isinstance(value, float) else _short(value)


def _short(value: JsonValue) -> str:
    text = "" if value is None else canonical_json(value).decode()
    return text if len(text) <= 24 else text[:23] + "…"


def _cut(num_rows: int) -> Iterable[RenderableType]:
    if num_rows > MAX_ROWS:
        yield Text(f"... and {num_rows - MAX_ROWS:,} more; --json has them all", style="dim")


def _pairs(values: dict[str, JsonValue] | dict[str, str]) -> str:
    return " · ".join(
        f"{key} {value if isinstance(value, str) else canonical_json(value).decode()}" for key, value in values.items()
    )


def _time(moment: str | None) -> str:
    """Render an ISO time to the minute."""
    return moment[:16].replace("T", " ") if moment else "?"


def _quoted(path: str | Path) -> str:
    return shlex.quote(str(path))
