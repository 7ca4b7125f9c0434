"""A ray-caster for round walls, in array operations over a batch of eyes.

Below the horizon there is water, then the pool's wall, behind it the room's wall, above that the ceiling. A column of
the picture depends on two things alone for each wall: how far the wall is and which column of its paint the ray meets.
So every such column is painted beforehand (anti-aliased in height), and a frame is a gather of painted columns.

No frame depends on those drawn with it, and only operations that IEEE 754 rounds exactly lie between a position and its
pixels: frames are the same bits for any batch (`tests/test_tasks_watermaze.py`).
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from historystore.tasks.pool import HEADING_VECTORS
from historystore.tasks.scenery import EYE_HEIGHT, Surface, backdrop, pool_wall, room_wall

_NUM_ANGLES = 4096
_CHUNK = 64
"""Frames drawn at once: what is between them then stays in the processor's cache."""
_SUPERSAMPLED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Painted:
    """A wall as the columns of a picture. The nearness of a wall is 1 / distance, in `num_levels` levels."""

    radius: float
    levels_a_nearness: float
    num_levels: int
    num_columns: int
    column_of_bin: Int64[np.ndarray, " bins"]
    strips: UInt8[np.ndarray, "strips height_of_3"]
    """Water below the wall, the ceiling above it."""
    open_above: UInt8[np.ndarray, "levels height_of_3"]
    """255 above the wall's upper edge, 0 elsewhere."""


class Raycaster:
    """Draw what eyes in the pool see, 90 degrees wide."""

    def __init__(self, *, height: int, width: int) -> None:
        self.height, self.width = height, width
        forward = HEADING_VECTORS[:, None, :]  # (headings, 1, 2)
        left = np.stack([-forward[..., 1], forward[..., 0]], axis=-1)
        aside = (((width - 1) / 2 - np.arange(width)) / (width / 2))[:, None]  # (width, 1): left of the middle is > 0
        rays = forward + aside * left  # (headings, width, 2): one unit of depth each
        self._rays_x, self._rays_y = np.ascontiguousarray(rays[..., 0]), np.ascontiguousarray(rays[..., 1])
        self._square = 1.0 + aside[:, 0] ** 2  # (width,): of a ray's length
        self._room = _painted(room_wall(), height=height, width=width, nearest=1.2, num_levels=64)
        pool = _painted(pool_wall(), height=height, width=width, nearest=0.08, num_levels=256)
        hidden = ~np.repeat(pool.open_above, pool.num_columns, axis=0)
        self._pool = replace(pool, strips=pool.strips & hidden)  # nothing above the rim, where the room is seen

    def frames(
        self, positions: Float64[np.ndarray, "batch 2"], headings: Int64[np.ndarray, " batch"]
    ) -> UInt8[np.ndarray, "batch height width 3"]:
        """Return what each eye sees from its position along its heading."""
        out = np.empty((len(positions), self.height, self.width, 3), dtype=np.uint8)
        for start in range(0, len(positions), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            self._draw(positions[chunk], headings[chunk], out=out[chunk])
        return out

    def _draw(
        self,
        positions: Float64[np.ndarray, "batch 2"],
        headings: Int64[np.ndarray, " batch"],
        *,
        out: UInt8[np.ndarray, "batch height width 3"],
    ) -> None:
        x, y = positions[:, :1], positions[:, 1:]
        rays_x, rays_y = self._rays_x[headings], self._rays_y[headings]  # (batch, width)
        along = x * rays_x + y * rays_y
        behind = x * x + y * y
        levels, columns = self._met(self._pool, x, y, rays_x, rays_y, along, behind)
        near = self._pool.strips.take(levels * self._pool.num_columns + columns, axis=0)
        is_open = self._pool.open_above.take(levels, axis=0)
        levels, columns = self._met(self._room, x, y, rays_x, rays_y, along, behind)
        far = self._room.strips.take(levels * self._room.num_columns + columns, axis=0)
        far &= is_open
        near |= far
        planes = near.reshape(len(positions), self.width, 3, self.height)
        for channel in range(3):  # a third of the time of one transposition
            out[..., channel] = planes[:, :, channel].transpose(0, 2, 1)

    def _met(
        self,
        wall: _Painted,
        x: Float64[np.ndarray, "batch 1"],
        y: Float64[np.ndarray, "batch 1"],
        rays_x: Float64[np.ndarray, "batch width"],
        rays_y: Float64[np.ndarray, "batch width"],
        along: Float64[np.ndarray, "batch width"],
        behind: Float64[np.ndarray, "batch 1"],
    ) -> tuple[Int64[np.ndarray, "batch width"], Int64[np.ndarray, "batch width"]]:
        """Return the level and the paint column of the wall that each ray meets.

        The depth t solves |p + t v|^2 = R^2, that is v.v t^2 + 2 p.v t + p.p - R^2 = 0. The angle of the point is
        taken from y / (|x| + |y|), which grows with it and needs no arc tangent.
        """
        root = np.sqrt(along * along + self._square * (wall.radius * wall.radius - behind))
        depth = (root - along) / self._square
        levels = (wall.levels_a_nearness / depth).astype(np.int64)
        np.minimum(levels, wall.num_levels - 1, out=levels)
        met_x, met_y = x + depth * rays_x, y + depth * rays_y
        slope = met_y / (np.abs(met_x) + np.abs(met_y))
        turn = np.where(met_x >= 0, slope, 2.0 - slope)  # from -1 to 3
        bins = ((turn + 1.0) * (_NUM_ANGLES // 4)).astype(np.int64) & (_NUM_ANGLES - 1)
        return levels, wall.column_of_bin[bins]


@cache
def raycaster(*, height: int, width: int) -> Raycaster:
    """Return the ray-caster of that picture size, painted once a process."""
    return Raycaster(height=height, width=width)


def _painted(surface: Surface, *, height: int, width: int, nearest: float, num_levels: int) -> _Painted:
    """Paint a wall at every distance. What is nearer than `nearest` is drawn as if it were there."""
    levels_a_nearness = num_levels * nearest
    rows = np.arange(height * _SUPERSAMPLED)
    slopes = (height / 2 - (rows + 0.5) / _SUPERSAMPLED) / (width / 2)  # up is > 0, a unit of depth
    behind = np.repeat(backdrop(height), _SUPERSAMPLED, axis=0)  # (rows, 3)
    num_columns, num_heights = surface.colours.shape[:2]
    strips = np.empty((num_levels, num_columns, 3, height), dtype=np.uint8)
    open_above = np.zeros((num_levels, 3, height), dtype=np.uint8)
    for level in range(num_levels):
        heights = EYE_HEIGHT + slopes * levels_a_nearness / (level + 0.5)
        index = np.clip(heights * (num_heights / surface.top), 0, num_heights - 1).astype(np.int64)
        is_wall = (heights >= 0) & (heights < surface.top)
        fine = np.where(is_wall[:, None], surface.colours[:, index], behind)  # (columns, rows, 3)
        mean = fine.reshape(num_columns, height, _SUPERSAMPLED, 3).mean(axis=2)
        is_open = heights.reshape(height, _SUPERSAMPLED).mean(axis=1) >= surface.top
        strips[level] = np.rint(mean).transpose(0, 2, 1)
        open_above[level] = np.where(is_open, 255, 0)
    return _Painted(
        radius=surface.radius,
        levels_a_nearness=levels_a_nearness,
        num_levels=num_levels,
        num_columns=num_columns,
        column_of_bin=surface.column_of_angle[(_turns() * len(surface.column_of_angle)).astype(np.int64)],
        strips=strips.reshape(num_levels * num_columns, 3 * height),
        open_above=open_above.reshape(num_levels, 3 * height),
    )


def _turns() -> Float64[np.ndarray, " bins"]:
    """Return what part of the circle, counter-clockwise from east, the middle of each bin of `_met` lies at."""
    turn = (np.arange(_NUM_ANGLES) + 0.5) / (_NUM_ANGLES // 4) - 1.0
    y = np.where(turn <= 1.0, turn, 2.0 - turn)
    x = np.where(turn <= 1.0, 1.0, -1.0) * (1.0 - np.abs(y))
    turns: Float64[np.ndarray, " bins"] = np.arctan2(y, x) / (2 * np.pi) % 1.0
    return turns
