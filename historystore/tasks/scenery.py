"""What stands around the pool of Watermaze: the paint of its wall, the posters of the room, water and ceiling.

Everything is a colour per column of a surface: a surface is a ring of columns, and a column is a colour per height.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from historystore.tasks.pool import POOL_RADIUS

EYE_HEIGHT = 0.2
"""Above the water."""
WALL_HEIGHT = 0.27
"""The rim is above the eye, so that neither the room's floor nor what is behind the wall below it is ever seen."""
ROOM_RADIUS = 3.0
ROOM_HEIGHT = 1.9

_PANELS = (
    ((205, 60, 50), (240, 225, 200), "########"),
    ((205, 60, 50), (240, 225, 200), "#.#.#.#."),
    ((235, 140, 40), (90, 50, 30), "########"),
    ((235, 140, 40), (90, 50, 30), "##....##"),
    ((230, 205, 60), (70, 70, 70), "########"),
    ((230, 205, 60), (70, 70, 70), "#.#.#.#."),
    ((70, 160, 70), (225, 240, 210), "########"),
    ((70, 160, 70), (225, 240, 210), "##....##"),
    ((60, 175, 185), (25, 60, 90), "########"),
    ((60, 175, 185), (25, 60, 90), "#.#.#.#."),
    ((150, 80, 180), (245, 215, 240), "########"),
    ((150, 80, 180), (245, 215, 240), "##....##"),
)
"""The pool's wall, counter-clockwise from east: paint, second paint, and which of them each column of a panel has."""

_POSTERS = (
    ((190, 40, 60), ("...#...", "..###..", ".#####.", "#######", ".#####.", "..###..", "...#...")),
    ((30, 80, 190), ("..###..", "..###..", "#######", "#######", "#######", "..###..", "..###..")),
    ((20, 130, 80), ("#######", "#.....#", "#.###.#", "#.###.#", "#.###.#", "#.....#", "#######")),
    ((220, 120, 0), ("...#...", "...#...", "..###..", "..###..", ".#####.", ".#####.", "#######")),
    ((110, 50, 150), ("##...##", "###.###", ".#####.", "..###..", ".#####.", "###.###", "##...##")),
    ((40, 40, 40), ("#######", ".......", "#######", ".......", "#######", ".......", "#######")),
)
"""The room's posters, counter-clockwise from east by sixths of the circle: ink, and what is printed."""
_POSTER_HEIGHTS = (0.75, 0.55, 0.85, 0.6, 0.9, 0.5)
"""Of their lower edges above the water."""
_POSTER_SIZE = 0.7
_PAPER = (250, 248, 240)
_PLASTER = (188, 190, 200)
_CORNICE = (120, 122, 135)
_CEILING = ((150, 185, 225), (215, 230, 245))
"""At the top of the picture, and at the horizon."""
_WATER = ((185, 215, 220), (40, 95, 120))
"""At the horizon, and at the bottom of the picture."""
_RIM = (245, 245, 245)
_FOOT = (30, 60, 75)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """A round wall: what its columns look like and which one stands at which angle."""

    radius: float
    colours: Float[np.ndarray, "columns heights 3"]
    """From the water up to `top`, by equal steps; 0 to 255."""
    top: float

    column_of_angle: Int[np.ndarray, " angles"]
    """Counter-clockwise from east, by equal steps."""


def pool_wall() -> Surface:
    """Return the wall of the pool: twelve panels of eight columns, a pale rim and a dark foot."""
    num_heights = 27
    colours = np.empty((len(_PANELS) * 8, num_heights, 3))
    for index, (paint, second, pattern) in enumerate(_PANELS):
        for column, sign in enumerate(pattern):
            colours[index * 8 + column] = paint if sign == "#" else second
    colours[:, -2:] = _RIM
    colours[:, :2] = _FOOT
    return Surface(
        radius=POOL_RADIUS, colours=colours, top=WALL_HEIGHT, column_of_angle=np.arange(len(colours), dtype=np.int64)
    )


def room_wall() -> Surface:
    """Return the wall of the room: plaster with six posters, a cornice on top."""
    num_heights = 190
    plain = np.tile(np.array(_PLASTER, dtype=np.float64), (1, num_heights, 1))
    columns = [plain]
    column_of_angle = np.zeros(720, dtype=np.int64)
    for index, ((ink, print_), low) in enumerate(zip(_POSTERS, _POSTER_HEIGHTS, strict=True)):
        first = 1 + 7 * index
        columns.append(_poster_columns(plain, ink, print_, low=low))
        half_turn = round(720 * _POSTER_SIZE / 2 / (2 * np.pi * ROOM_RADIUS))
        angles = np.arange(-half_turn, half_turn)
        column_of_angle[(index * 120 + angles) % 720] = first + 6 - (angles + half_turn) * 7 // (2 * half_turn)
    colours = np.concatenate(columns)
    colours[:, -12:] = _CORNICE
    return Surface(radius=ROOM_RADIUS, colours=colours, top=ROOM_HEIGHT, column_of_angle=column_of_angle)


def _poster_columns(
    plain: Float[np.ndarray, "1 heights 3"], ink: tuple[int, int, int], print_: tuple[str, ...], *, low: float
) -> Float[np.ndarray, "7 heights 3"]:
    """Return the columns of a poster, left to right."""
    columns = np.repeat(plain, 7, axis=0)
    first, size = round(low * 100), round(_POSTER_SIZE * 100)
    for column in range(7):
        signs = [print_[6 - height * 7 // size][column] for height in range(size)]
        columns[column, first : first + size] = [ink if sign == "#" else _PAPER for sign in signs]
    return columns


def backdrop(height: int) -> Float[np.ndarray, "height 3"]:
    """Return the colour of each row where no wall is: the ceiling above the horizon, the water below it."""
    above = np.linspace(0.0, 1.0, height // 2)[:, None]
    below = np.sqrt(np.linspace(0.0, 1.0, height - height // 2))[:, None]
    ceiling, water = np.array(_CEILING, dtype=np.float64), np.array(_WATER, dtype=np.float64)
    return np.concatenate([ceiling[0] + above * (ceiling[1] - ceiling[0]), water[0] + below * (water[1] - water[0])])
