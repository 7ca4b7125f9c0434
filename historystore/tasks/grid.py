"""Square grids walked in four directions: the moves, the random walk, and the drawing of an episode."""

from collections.abc import Mapping
from functools import cache

import numpy as np
from jaxtyping import Float, Int, Num

from historystore.errors import InvalidValue

Cell = tuple[int, int]
MOVES = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (0, 0)], dtype=np.int64)
"""What each action adds to (x, y): right, left, up, down, stay."""
ARROWS = "→←↑↓•"
"""One sign an action, in the same order."""


def parse_cell(value: object, *, size: int, name: str) -> Cell:
    """Return a cell of the grid.

    Raises:
        InvalidValue: it is not a pair of whole numbers from 0 to size - 1.
    """
    cell = tuple(value) if isinstance(value, (list, tuple, np.ndarray)) else ()
    is_whole = all(isinstance(c, (int, np.integer)) and not isinstance(c, bool) for c in cell)
    if len(cell) != 2 or not is_whole or not all(0 <= c < size for c in cell):
        raise InvalidValue(
            f"{name}: expected two whole numbers (x, y) from 0 to {size - 1}, got {value!r}. Pick a cell."
        )
    return int(cell[0]), int(cell[1])


def moved(
    positions: Int[np.ndarray, "*batch 2"], actions: Int[np.ndarray, "*batch"] | int | np.integer, *, size: int
) -> Int[np.ndarray, "*batch 2"]:
    """Return where the actions lead; a move into a wall stays where it is."""
    landed: Int[np.ndarray, "*batch 2"] = np.minimum(np.maximum(positions + MOVES[actions], 0), size - 1)
    return landed


def steps_towards(
    positions: Int[np.ndarray, "*batch 2"], targets: Int[np.ndarray, "*batch 2"]
) -> Int[np.ndarray, "*batch"]:
    """Return the action of a shortest way from each position to its target: along x, then along y, there stay."""
    dx, dy = np.moveaxis(targets - positions, -1, 0)
    return np.select([dx > 0, dx < 0, dy > 0, dy < 0], [0, 1, 2, 3], default=4)


@cache
def _successors(size: int) -> Int[np.ndarray, "actions cells"]:
    """Return the cell (x * size + y) that each action leads to from each cell."""
    cells = np.indices((size, size)).reshape(2, size * size).T  # (cells, 2)
    columns = [moved(cells, np.full(len(cells), action), size=size) for action in range(len(MOVES))]
    return np.stack([landed[:, 0] * size + landed[:, 1] for landed in columns])


def random_arrivals(
    start: Cell | None, goal: Cell, *, size: int, num_steps: int, is_absorbing: bool
) -> Float[np.ndarray, " num_steps"]:
    """Return for each step the exact chance that a uniformly random walker stands on the goal after it.

    Without a start, every cell is as likely to be it. An absorbing goal counts the first arrival alone. One step of
    dynamic programming is `p'(c) = 1/5 sum over (b, a) with successor(b, a) = c of p(b)`.
    """
    successors = _successors(size)
    chance: Float[np.ndarray, " cells"] = np.full(size * size, 0.0 if start else size**-2.0)
    if start is not None:
        chance[start[0] * size + start[1]] = 1.0
    target = goal[0] * size + goal[1]
    arrivals = np.empty(num_steps)
    for step in range(num_steps):
        flow = np.broadcast_to(chance / len(MOVES), successors.shape)
        chance = np.bincount(successors.ravel(), weights=flow.ravel(), minlength=size * size)
        arrivals[step] = chance[target]
        if is_absorbing:
            chance[target] = 0.0
    return arrivals


def drawn_episode(
    observations: Int[np.ndarray, "time 2"],
    actions: Int[np.ndarray, " time"],
    rewards: Num[np.ndarray, " time"],
    *,
    targets: Mapping[Cell, str],
    size: int,
) -> str:
    """Render an episode: each cell shows the first step that ended there, a target's between its two brackets."""
    if not len(actions):
        return "(an episode without a step)"
    path = [tuple(map(int, cell)) for cell in observations]
    path.append(tuple(map(int, moved(observations[-1], actions[-1], size=size))))
    first = {cell: step for step, cell in reversed(list(enumerate(path)))}

    def sign(cell: Cell) -> str:
        brackets = targets.get(cell, "  ")
        text = str(first.get(cell, " " if cell in targets else "·"))
        return f"{brackets[0] + text + brackets[1]:>4}"

    rows = [f"{y:>3} " + "".join(sign((x, y)) for x in range(size)) for y in reversed(range(size))]
    rows.append("    " + "".join(f"{x:>3} " for x in range(size)))
    arrows = "".join(ARROWS[action] for action in actions)
    marks = "".join("+" if reward > 0 else "-" if reward < 0 else " " for reward in rewards)
    return "\n".join([*(row.rstrip() for row in rows), "", f"actions  {arrows}", f"rewards  {marks}".rstrip()])
