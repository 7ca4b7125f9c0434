"""Values that change while a learner learns."""

from __future__ import annotations

from collections.abc import Callable

Schedule = Callable[[float], float]
"""A value by the share of the training that remains: 1 at its beginning, 0 at its end."""
