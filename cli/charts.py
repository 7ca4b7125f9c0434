"""Numbers as text: sparklines, counts and sizes that line up."""

from __future__ import annotations

from collections.abc import Sequence

LEVELS = "▁▂▃▄▅▆▇█"
MISSING = "-"


def sparkline(values: Sequence[float | None], *, low: float, high: float, width: int) -> str:
    """Render values between two bounds, each as often as they all fit a width; a gap where there is none."""
    span = high - low
    times = max(1, width // max(1, len(values)))

    def level(value: float | None) -> str:
        if value is None:
            return " "
        share = (value - low) / span if span > 0 else 0.0
        return LEVELS[round(min(max(share, 0.0), 1.0) * (len(LEVELS) - 1))]

    return "".join(level(value) * times for value in values)


def bounds(*series: Sequence[float | None]) -> tuple[float, float]:
    """Return the lowest and highest value of several series; (0, 0) without any."""
    known = [value for values in series for value in values if value is not None]
    return (min(known), max(known)) if known else (0.0, 0.0)


def last_known(values: Sequence[float | None]) -> float | None:
    """Return the last value that is not missing."""
    return next((value for value in reversed(values) if value is not None), None)


def number(value: float | None) -> str:
    """Render a number in at most nine characters: four significant digits, thousands apart, a dash for none."""
    if value is None:
        return MISSING
    size = abs(value)
    if float(value).is_integer() and size < 1e6:
        return f"{int(value):,}"
    if 1e-3 <= size < 1e6:
        digits = max(0, 3 - len(str(int(size)))) if size >= 1 else 3
        return f"{value:,.{digits}f}"
    return f"{value:.2e}"


def count(value: int, noun: str = "") -> str:
    """Render a count with thousands apart, and its noun in the right number."""
    if not noun:
        return f"{value:,}"
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def size(num_bytes: int) -> str:
    """Render a number of bytes in the unit that leaves one to three digits before the point."""
    value, unit = float(num_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{num_bytes} B" if unit == "B" else f"{value:.1f} {unit}"


def percent(share: float) -> str:
    """Render a share without rounding it up to all or down to none."""
    whole = round(share * 100)
    if whole == 100 and share < 1:
        return f"{int(share * 1000) / 10} %"
    if whole == 0 and share > 0:
        return "<1 %"
    return f"{whole} %"
