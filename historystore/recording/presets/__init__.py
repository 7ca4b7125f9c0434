"""Settings under which a world's learners converge, found by measurement; a file a world.

The figures in a preset's `why` come from `python tests/benchmarks/presets.py ALGO ENV`, on one busy core of a 2-core
x86-64 machine with one torch thread. A `why` without figures says that nobody has measured it.
"""

from __future__ import annotations

from historystore.recording.presets import classic, classic_control, dark_key_to_door, darkroom, watermaze
from historystore.recording.presets.model import Preset

__all__ = ["Preset", "preset", "presets"]

_PRESETS: dict[tuple[str, str], Preset] = {
    **darkroom.PRESETS,
    **dark_key_to_door.PRESETS,
    **classic.PRESETS,
    **classic_control.PRESETS,
    **watermaze.PRESETS,
}
_UNKNOWN = Preset(why="The algorithm's own defaults and one stream: nobody has measured this pair.")


def presets() -> list[tuple[str, str]]:
    """List the pairs of algorithm and world that have been thought about, sorted."""
    return sorted(_PRESETS)


def preset(algo: str, family_name: str) -> Preset:
    """Return the settings of that algorithm for that family; where there are none, the algorithm's own defaults.

    Those know no number of steps.
    """
    return _PRESETS.get((algo, family_name), _UNKNOWN)
