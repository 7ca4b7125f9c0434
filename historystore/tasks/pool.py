"""A round pool and a swimmer in it: the moves, the way to a platform, and the drawing of an episode.

Lengths are in radii of the pool, whose centre is (0, 0); x grows to the east, y to the north. A heading is one of
`NUM_HEADINGS` directions, counter-clockwise from east. The numbers were chosen by `python tests/benchmarks/watermaze.py
random`: a random swimmer finds a platform in about one episode of five.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64, Num

POOL_RADIUS = 1.0
SWIMMER_RADIUS = 0.1
"""The wall stops the swimmer's centre this far from itself."""
STROKE = 0.1
"""The length of a move."""
NUM_HEADINGS = 16
"""A turn is a sixteenth of the circle, 22.5 degrees."""
PLATFORM_RADIUS = 0.15
LARGEST_DISTANCE = POOL_RADIUS - PLATFORM_RADIUS
"""Of a platform from the centre: all of it is in the pool."""

ACTIONS = (
    "forward",
    "back",
    "left",
    "right",
    "turn left",
    "turn right",
    "forward + turn left",
    "forward + turn right",
)
ARROWS = "↑↓←→↶↷↖↗"
"""One sign an action, in the same order."""
_AHEAD = np.array([1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0])
_ASIDE = np.array([0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0])
_TURN = np.array([0, 0, 0, 0, 1, -1, 1, -1], dtype=np.int64)


def _heading_vectors() -> Float64[np.ndarray, "headings 2"]:
    angles = 2 * np.pi * np.arange(NUM_HEADINGS) / NUM_HEADINGS
    return np.round(np.stack([np.cos(angles), np.sin(angles)], axis=1), 12)


HEADING_VECTORS = _heading_vectors()
"""The (cos, sin) of each heading, rounded so that every processor has the same ones."""


def moved(
    positions: Float64[np.ndarray, "*batch 2"],
    headings: Int64[np.ndarray, "*batch"],
    actions: Int[np.ndarray, "*batch"],
) -> tuple[Float64[np.ndarray, "*batch 2"], Int64[np.ndarray, "*batch"]]:
    """Return where the actions lead: first the turn, then the stroke along the new heading.

    Who would come too near the wall slides along it: the position is drawn back towards the centre.
    """
    turned = (headings + _TURN[actions]) % NUM_HEADINGS
    cos, sin = HEADING_VECTORS[turned, 0], HEADING_VECTORS[turned, 1]
    ahead, aside = STROKE * _AHEAD[actions], STROKE * _ASIDE[actions]
    x = positions[..., 0] + (ahead * cos - aside * sin)
    y = positions[..., 1] + (ahead * sin + aside * cos)
    limit = POOL_RADIUS - SWIMMER_RADIUS
    kept = limit / np.maximum(np.sqrt(x * x + y * y), limit)
    return np.stack([x * kept, y * kept], axis=-1), turned


def is_on_platform(
    positions: Float64[np.ndarray, "*batch 2"], platforms: Float64[np.ndarray, "*#batch 2"]
) -> Bool[np.ndarray, "*batch"]:
    """Return who stands on their platform."""
    away = positions - platforms
    x, y = away[..., 0], away[..., 1]
    return np.asarray(x * x + y * y <= PLATFORM_RADIUS * PLATFORM_RADIUS)


def ways_to_platform(
    positions: Float64[np.ndarray, "batch 2"],
    headings: Int64[np.ndarray, " batch"],
    platforms: Float64[np.ndarray, "batch 2"],
) -> Int64[np.ndarray, " batch"]:
    """Return the actions that swim to the platforms: of the eight, the one that ends nearest.

    From the centre every platform is reached within 11 steps, 5.5 in the mean, where strokes in any direction would
    take 4.8 (`tests/test_tasks_watermaze.py`).
    """
    shape = (len(positions), len(ACTIONS))
    at, _ = moved(
        np.broadcast_to(positions[:, None], (*shape, 2)),
        np.broadcast_to(headings[:, None], shape),
        np.broadcast_to(np.arange(len(ACTIONS)), shape),
    )
    away = at - platforms[:, None]  # (batch, actions, 2)
    x, y = away[..., 0], away[..., 1]
    nearest: Int64[np.ndarray, " batch"] = np.argmin(np.round(x * x + y * y, 9), axis=1)
    return nearest


def drawn_path(
    path: Float64[np.ndarray, "places 2"],
    actions: Int[np.ndarray, " time"],
    rewards: Num[np.ndarray, " time"],
    *,
    platform: tuple[float, float],
) -> str:
    """Render an episode from above: each cell shows the first step that ended there, those of the platform in brackets.

    North is up, and a cell is as wide as a stroke.
    """
    cells = [tuple(map(int, cell)) for cell in np.rint(path / STROKE)]
    first = {cell: step for step, cell in reversed(list(enumerate(cells)))}
    size = round(POOL_RADIUS / STROKE)

    def sign(x: int, y: int) -> str:
        if x * x + y * y > size * size:
            return "    "
        is_platform = bool(is_on_platform(np.array([x, y]) * STROKE, np.array(platform)))
        text = str(first.get((x, y), " " if is_platform else "·"))
        return f"{f'[{text}]':>4}" if is_platform else f"{text:>3} "

    rows = ["".join(sign(x, y) for x in range(-size, size + 1)).rstrip() for y in range(size, -size - 1, -1)]
    arrows = "".join(ARROWS[action] for action in actions)
    marks = "".join("+" if reward > 0 else "-" if reward < 0 else " " for reward in rewards)
    return "\n".join([*rows, "", f"actions  {arrows}", f"rewards  {marks}".rstrip()])
