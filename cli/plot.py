"""A learning curve as a picture."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from pydantic import BaseModel

from historystore.curves import Curve
from historystore.errors import InvalidValue, WriteFailed

WIDTH_INCHES, HEIGHT_INCHES, DPI = 6.4, 3.6, 150


def save_curve(path: Path, document: BaseModel) -> None:
    """Draw the learning curve of a store, a task or a learner: the median, and the quartiles as a band.

    The file's ending says the format; PNG without one.
    """
    curve = getattr(document, "curve", None)
    if not isinstance(curve, Curve):
        raise click.UsageError("--plot: there is no learning curve here, because no episode has ended yet.")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DPI, layout="constrained")
    kinds = FigureCanvasAgg(figure).get_supported_filetypes()
    kind = path.suffix.removeprefix(".").lower() or "png"
    if kind not in kinds:
        raise InvalidValue(
            f"--plot: no picture ends in .{kind}, expected one of {', '.join(sorted(kinds))}. Rename it."
        )
    axes = figure.add_subplot()
    is_steps = curve.min_steps == curve.max_steps
    place = (np.arange(len(curve.median)) + 1) / len(curve.median) * (curve.max_steps if is_steps else 1)
    lower, median, upper = (
        np.array([np.nan if value is None else value for value in values])
        for values in (curve.lower_quartile, curve.median, curve.upper_quartile)
    )
    axes.fill_between(place, lower, upper, alpha=0.25, linewidth=0, label="quartiles")
    axes.plot(place, median, label="median")
    axes.set_xlabel("environment steps" if is_steps else "share of each learner's training")
    axes.set_ylabel("return")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    try:
        figure.savefig(path, format=kind)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WriteFailed(f"{path}: cannot be written, {reason}. Choose another place.") from None
