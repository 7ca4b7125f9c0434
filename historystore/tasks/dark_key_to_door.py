"""Dark Key-to-Door: an unseen key and an unseen door on a 9x9 grid, each rewarded once an episode, the key first.

Laskin et al., "In-context Reinforcement Learning with Algorithm Distillation" (arXiv 2210.14215). Every episode begins
on a cell drawn at random, which counts for nothing: a reward falls on a step that ends on the key, or afterwards on the
door, one a step. The paper does not say whether the door ends an episode. Here it does not, unless `ends_at_door` is
set: the paper's thousand episodes of fifty steps are drawn as exactly 50 000 steps.

Key and door leave no trace in the observation, the own (x, y), so a learner without a memory cannot solve it. The
argument `source` says what the source learner, and it alone, sees: `key` appends whether the key is held (the default),
`stack-4` shows the last four positions of the episode instead, oldest first (the start repeated until there are four),
and `plain` shows it the observation and no more.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int64, Shaped
from pydantic import JsonValue

from historystore.errors import InvalidValue
from historystore.tasks.arguments import check_room
from historystore.tasks.generators import Generators
from historystore.tasks.grid import MOVES, Cell, drawn_episode, moved, parse_cell, random_arrivals, steps_towards
from historystore.tasks.permutation import permutation
from historystore.tasks.protocol import Task

LARGEST_SIZE = 25
"""A larger room has more (key, door) pairs than can be put in order within a second."""
MOST_FRAMES = 50


class DarkKeyToDoor(gym.Env[Int64[np.ndarray, "2"], np.int64]):
    """Find a key, then a door, that only the rewards give away.

    An observation is the own (x, y); the actions are right, left, up, down and stay; a wall stops a move. It terminates
    at the door where `ends_at_door` is set; else only Gymnasium's TimeLimit (part of `gymnasium.make`) truncates it.
    """

    metadata = {  # noqa: RUF012 - an instance variable to gym.Env's type
        "render_modes": ["ansi"],
        "render_fps": 4,
    }

    def __init__(
        self,
        key: Sequence[int],
        door: Sequence[int],
        *,
        size: int = 9,
        ends_at_door: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.key = parse_cell(key, size=size, name="key")
        self.door = parse_cell(door, size=size, name="door")
        self.size = size
        self.ends_at_door = ends_at_door
        self.render_mode = render_mode
        self.observation_space = gym.spaces.MultiDiscrete([size, size])
        self.action_space = gym.spaces.Discrete(len(MOVES))
        self._start_episode(np.zeros(2, dtype=np.int64))

    def _start_episode(self, position: Int64[np.ndarray, "2"]) -> None:
        self._position = position
        self._has_key, self._was_at_door = False, False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Int64[np.ndarray, "2"], dict[str, Any]]:
        """Begin on a cell drawn at random, without the key."""
        super().reset(seed=seed, options=options)
        self._start_episode(self.np_random.integers(self.size, size=2))
        return self._position.copy(), {}

    def step(self, action: np.int64 | int) -> tuple[Int64[np.ndarray, "2"], float, bool, bool, dict[str, Any]]:
        """Move, and be rewarded if the move ends on what is looked for."""
        self._position = moved(self._position, action, size=self.size)
        cell = (int(self._position[0]), int(self._position[1]))
        is_door = cell == self.door and self._has_key and not self._was_at_door
        is_key = cell == self.key and not self._has_key
        self._has_key, self._was_at_door = self._has_key or is_key, self._was_at_door or is_door
        return self._position.copy(), float(is_key or is_door), is_door and self.ends_at_door, False, {}

    def render(self) -> str | None:
        """Draw the room: `@` where the walker is, `K` for the key until it is held, `D` for the door."""
        if self.render_mode is None:
            return None
        key = {} if self._has_key else {self.key: "K"}
        signs = {self.door: "D", **key, (int(self._position[0]), int(self._position[1])): "@"}
        rows = [" ".join(signs.get((x, y), "·") for x in range(self.size)) for y in reversed(range(self.size))]
        return "\n".join(rows)


class BatchedKeyToDoor:
    """Many rooms of one size with key and door, stepped by one array operation."""

    def __init__(
        self,
        tasks: Sequence[tuple[Cell, Cell]],
        *,
        size: int,
        ends_at_door: bool,
        max_episode_steps: int,
        has_key_bit: bool = False,
        num_frames: int = 1,
    ) -> None:
        self.num_envs = len(tasks)
        self.tasks: tuple[Task, ...] = tuple({"key": [*key], "door": [*door]} for key, door in tasks)
        self.observation_space: gym.Space[Any] = gym.spaces.MultiDiscrete([size, size])
        self.action_space: gym.Space[Any] = gym.spaces.Discrete(len(MOVES))
        counts = [size, size] * num_frames + [2] * has_key_bit
        self.source_observation_space: gym.Space[Any] | None = (
            gym.spaces.MultiDiscrete(counts) if len(counts) > 2 else None
        )
        self._size, self._ends_at_door, self._has_key_bit = size, ends_at_door, has_key_bit
        self._max_episode_steps = max_episode_steps
        self._keys = np.array([key for key, _ in tasks], dtype=np.int64).reshape(self.num_envs, 2)
        self._doors = np.array([door for _, door in tasks], dtype=np.int64).reshape(self.num_envs, 2)
        self._generators = Generators(self.num_envs)
        self._frames = np.zeros((self.num_envs, num_frames, 2), dtype=np.int64)
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self._has_key = np.zeros(self.num_envs, dtype=bool)
        self._was_at_door = np.zeros(self.num_envs, dtype=bool)

    @property
    def _positions(self) -> Int64[np.ndarray, "num_envs 2"]:
        return self._frames[:, -1]

    def source_observation(self) -> Int64[np.ndarray, "num_envs numbers"]:
        """Return the last positions of the episode, oldest first, and whether the key is held, where asked for."""
        frames = self._frames.reshape(self.num_envs, -1)  # (envs, frames, 2) -> (envs, 2 frames)
        return np.concatenate([frames, self._has_key[:, None]], axis=1) if self._has_key_bit else frames.copy()

    def expert_actions(self) -> Int64[np.ndarray, " num_envs"]:
        """Return the way to the key, then to the door."""
        return steps_towards(self._positions, np.where(self._has_key[:, None], self._doors, self._keys))

    def state(self) -> dict[str, np.ndarray]:
        """Return where everybody is in the room and in the episode, and where the next starts come from."""
        return {
            "frames": self._frames.copy(),
            "elapsed": self._elapsed.copy(),
            "has_key": self._has_key.copy(),
            "was_at_door": self._was_at_door.copy(),
            "generators": self._generators.state(),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to a state."""
        self._frames = state["frames"].astype(np.int64)
        self._elapsed = state["elapsed"].astype(np.int64)
        self._has_key = state["has_key"].astype(bool)
        self._was_at_door = state["was_at_door"].astype(bool)
        self._generators.restore(state["generators"])

    def reset(
        self, mask: Bool[np.ndarray, " num_envs"] | None = None, *, seeds: Sequence[int | None] | None = None
    ) -> Int64[np.ndarray, "num_envs 2"]:
        """Put the walkers of `mask` (all without one) on cells drawn at random, without the key."""
        for index, generator in self._generators.of_reset(mask, seeds):
            self._frames[index] = generator.integers(self._size, size=2)
        where = slice(None) if mask is None else mask
        self._elapsed[where] = 0
        self._has_key[where] = False
        self._was_at_door[where] = False
        return self._positions.copy()

    def step(
        self, actions: Int[np.ndarray, " num_envs"]
    ) -> tuple[
        Int64[np.ndarray, "num_envs 2"],
        Float32[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
    ]:
        """Move every walker; those that have walked `max_episode_steps` are truncated."""
        positions = moved(self._positions, actions, size=self._size)
        self._frames[:, :-1] = self._frames[:, 1:]
        self._frames[:, -1] = positions
        is_door = _are_equal(positions, self._doors) & self._has_key & ~self._was_at_door
        is_key = _are_equal(positions, self._keys) & ~self._has_key
        self._has_key |= is_key
        self._was_at_door |= is_door
        self._elapsed += 1
        terminated = is_door if self._ends_at_door else np.zeros(self.num_envs, dtype=bool)
        return positions, (is_key | is_door).astype(np.float32), terminated, self._elapsed >= self._max_episode_steps


def _are_equal(
    cells: Int[np.ndarray, "num_envs 2"], others: Int[np.ndarray, "num_envs 2"]
) -> Bool[np.ndarray, " num_envs"]:
    matches: Bool[np.ndarray, "num_envs 2"] = cells == others
    equal: Bool[np.ndarray, " num_envs"] = matches[:, 0] & matches[:, 1]  # a third of the time of .all(axis=1)
    return equal


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyToDoorFamily:
    """One key and one door of a square grid a task."""

    arguments: ClassVar[tuple[str, ...]] = ("size", "max_episode_steps", "ends_at_door", "source")
    is_batched: ClassVar[bool] = True

    name: str = "dark-key-to-door"
    version: int = 1
    env_id: str = "historystore/DarkKeyToDoor-v0"
    size: int = 9
    max_episode_steps: int = 50
    ends_at_door: bool = False
    source: str = "key"
    args: dict[str, JsonValue] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        check_room(self, largest=LARGEST_SIZE)
        _num_frames(self.source)

    @property
    def num_tasks(self) -> int:
        """One task a pair of cells."""
        return int(self.size**4)

    @property
    def observation_space(self) -> gym.spaces.MultiDiscrete:
        """The own (x, y)."""
        return gym.spaces.MultiDiscrete([self.size, self.size])

    @property
    def action_space(self) -> gym.spaces.Discrete:
        """Right, left, up, down, stay."""
        return gym.spaces.Discrete(len(MOVES))

    def tasks(self) -> list[Task]:
        """List the pairs: every door for the key at (0, 0), for that at (0, 1), ..."""
        cells = [(x, y) for x in range(self.size) for y in range(self.size)]
        return [{"key": [*key], "door": [*door]} for key in cells for door in cells]

    def task_of_seed(self, seed: int) -> Task:
        """Return the task of a learner's seed, `P[seed % num_tasks]`."""
        index = permutation(self.name, self.version, self.num_tasks)[seed % self.num_tasks]
        key, door = divmod(index, self.size * self.size)
        return {"key": [*divmod(key, self.size)], "door": [*divmod(door, self.size)]}

    def make(self, task: Mapping[str, JsonValue]) -> gym.Env[Any, Any]:
        """Make the registered environment, which shows what the environment shows whatever the source may see."""
        key, door = self._cells(task)
        return gym.make(
            self.env_id,
            key=key,
            door=door,
            size=self.size,
            ends_at_door=self.ends_at_door,
            max_episode_steps=self.max_episode_steps,
        )

    def make_batched(self, tasks: Sequence[Mapping[str, JsonValue]]) -> BatchedKeyToDoor:
        """Make one room for each entry of `tasks`, stepped together."""
        return BatchedKeyToDoor(
            [self._cells(task) for task in tasks],
            size=self.size,
            ends_at_door=self.ends_at_door,
            max_episode_steps=self.max_episode_steps,
            has_key_bit=self.source == "key",
            num_frames=_num_frames(self.source),
        )

    def best_return(self, task: Mapping[str, JsonValue]) -> float:
        """Return what the shortest ways earn, averaged over the starts; a reward falls on a step, so none is empty."""
        key, door = self._cells(task)
        cells = np.indices((self.size, self.size)).reshape(2, -1).T  # (2, size, size) -> (cells, 2)
        to_key = np.maximum(np.abs(cells - key).sum(axis=1), 1)
        to_door = to_key + max(abs(key[0] - door[0]) + abs(key[1] - door[1]), 1)
        return float((to_key <= self.max_episode_steps).mean() + (to_door <= self.max_episode_steps).mean())

    def random_return(self, task: Mapping[str, JsonValue]) -> float:
        """Return the exact expected return of uniformly random actions, over random starts."""
        key, door = self._cells(task)
        at_key = _first_arrivals(None, key, size=self.size, num_steps=self.max_episode_steps)
        at_door = _first_arrivals(key, door, size=self.size, num_steps=self.max_episode_steps)
        # P(door by the end) = sum over t of P(key first at step t) P(door within the steps left)
        by_then = np.concatenate([[0.0], np.cumsum(at_door)[:-1]])[::-1]
        return float(at_key.sum() + at_key @ by_then)

    def draw_episode(
        self,
        task: Mapping[str, JsonValue],
        observations: Int[np.ndarray, "time 2"],
        actions: Int[np.ndarray, " time"],
        rewards: Shaped[np.ndarray, " time"],
    ) -> str:
        """Render one episode on the grid: the key in `[]`, the door in `<>`, both on one cell in `{}`."""
        key, door = self._cells(task)
        targets = {key: "{}"} if key == door else {key: "[]", door: "<>"}
        return drawn_episode(observations, actions, rewards, targets=targets, size=self.size)

    def _cells(self, task: Mapping[str, JsonValue]) -> tuple[Cell, Cell]:
        if set(task) != {"key", "door"}:
            raise InvalidValue(
                f"task: expected the keys 'key' and 'door', got {sorted(task)}. Give {{'key': [x, y], 'door': [x, y]}}."
            )
        key, door = (parse_cell(task[name], size=self.size, name=name) for name in ("key", "door"))
        return key, door


def _num_frames(source: str) -> int:
    """Return how many positions the source sees."""
    match = re.fullmatch(r"stack-(\d{1,3})", source)
    num_frames = int(match[1]) if match else 1
    if source not in ("plain", "key") and not (match and 2 <= num_frames <= MOST_FRAMES):
        raise InvalidValue(
            f"--env-arg source: expected plain, key, or stack-2 to stack-{MOST_FRAMES}, got {source!r}. "
            "Change the value."
        )
    return num_frames


@cache
def _first_arrivals(start: Cell | None, goal: Cell, *, size: int, num_steps: int) -> Float[np.ndarray, " num_steps"]:
    return random_arrivals(start, goal, size=size, num_steps=num_steps, is_absorbing=True)


FAMILY = KeyToDoorFamily()
