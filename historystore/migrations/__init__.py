"""Single steps from one version of the format to the next: one step a file, found by the version it starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from historystore.errors import OlderFormat
from historystore.migrations.step import Step


def _from_0_1() -> Step:
    from historystore.migrations.from_0_1 import STEP

    return STEP


STEPS: Mapping[str, Callable[[], Step]] = {"0.1": _from_0_1}
"""Version of the format -> the step that leads on from it."""


def step_from(version: str, *, where: str) -> Step:
    """Return the step that leads on from a version.

    Raises:
        OlderFormat: there is none.
    """
    if version not in STEPS:
        known = ", ".join(STEPS)
        raise OlderFormat(f"{where}: no step leads on from format {version}, expected {known}. Record it anew.")
    return STEPS[version]()
