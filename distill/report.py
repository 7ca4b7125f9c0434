"""The picture of an evaluation: return by episode, and what to hold it against."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from historystore.files import replace_file

from .results import Evaluation, PartResult, args_text

COLORS = {"test": "#1f6fb4", "fresh": "#0f8a8a", "validation": "#7a4fa3", "train": "#8fb8de"}
CONTROL_COLOR, SOURCE_COLOR, BOUND_COLOR = "#c2571a", "#4d8c3f", "#888888"


def write_report(path: Path, evaluation: Evaluation) -> tuple[Path, Path]:
    """Write an evaluation's numbers and its picture into a run's folder; return both paths.

    Raises:
        WriteFailed: the disk refused.
    """
    others = "" if evaluation.trained_args == evaluation.family_args else f"-{args_text(evaluation.family_args)}"
    stem = f"evaluation-{'-'.join(evaluation.parts())}{re.sub('[^A-Za-z0-9=_.-]+', '-', others)}-seed{evaluation.seed}"
    numbers, plot = path / f"{stem}.json", path / f"{stem}.png"
    replace_file(numbers, evaluation.model_dump_json(indent=1).encode())
    replace_file(plot, draw_evaluation(evaluation))
    return numbers, plot


def draw_evaluation(evaluation: Evaluation) -> bytes:
    """Draw the return by episode of every evaluated part, the source, a compared run and the bounds; PNG bytes."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes: Axes = figure.add_subplot()
    name = evaluation.method.upper()
    for part, result in evaluation.parts().items():
        _curve(axes, result, label=f"{name}, {result.num_tasks} {part} tasks", color=COLORS[part])
    main = next(iter(evaluation.parts()))
    result = evaluation.parts()[main]
    _line(axes, result.source_return_by_episode, f"source learner, {main} tasks, same steps", SOURCE_COLOR, "-")
    if evaluation.compared is not None:
        other = evaluation.compared.parts()[main]
        _curve(axes, other, label=f"{evaluation.compared_label}, {main} tasks", color=CONTROL_COLOR)
    for bound, label, style in ((result.best_return, "best", "--"), (result.random_return, "random", ":")):
        _line(axes, [bound] * evaluation.num_episodes, f"{label}, {main} tasks", BOUND_COLOR, style)
    steps = result.env_steps_by_episode[-1]
    axes.set(xlabel=f"episode in context ({steps:,.0f} environment steps in all)", ylabel="return", xlim=(1, None))
    axes.set_title(f"{evaluation.world}: learning in context, weights frozen", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def _curve(axes: Axes, result: PartResult, *, label: str, color: str) -> None:
    """Draw a mean with its interval over tasks."""
    episodes = range(1, len(result.return_by_episode) + 1)
    low = [interval.low for interval in result.interval_by_episode]
    high = [interval.high for interval in result.interval_by_episode]
    axes.fill_between(episodes, low, high, color=color, alpha=0.2, linewidth=0)
    axes.plot(episodes, result.return_by_episode, color=color, label=label, linewidth=2)


def _line(axes: Axes, values: Sequence[float | None], label: str, color: str, style: str) -> None:
    """Draw a line without an interval, where it is known."""
    known = [(episode, value) for episode, value in enumerate(values, start=1) if value is not None]
    if known:
        axes.plot(*zip(*known, strict=True), color=color, label=label, linestyle=style, linewidth=1.2)
