"""Dark Room: an unseen goal on a 9x9 grid, rewarded on every step that ends there.

Laskin et al., "In-context Reinforcement Learning with Algorithm Distillation" (arXiv 2210.14215). The environment is
`DarkRoom`, its batched twin `BatchedDarkRoom`; they share the moves alone, and a test steps them in lockstep
(`tests/test_tasks_lockstep.py`). Dark Room (Hard) is the same room with other numbers, in `darkroom_hard.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, Shaped
from pydantic import JsonValue

from historystore.errors import InvalidValue
from historystore.tasks.arguments import check_room
from historystore.tasks.grid import MOVES, Cell, drawn_episode, moved, parse_cell, random_arrivals, steps_towards
from historystore.tasks.permutation import permutation
from historystore.tasks.protocol import Task

LARGEST_SIZE = 101


class DarkRoom(gym.Env[Int64[np.ndarray, "2"], np.int64]):
    """Walk from the centre of a dark room to a goal that only the reward gives away.

    An observation is the own (x, y); the actions are right, left, up, down and stay; a wall stops a move. It never
    terminates, and only Gymnasium's TimeLimit (part of `gymnasium.make`) truncates it.
    """

    metadata = {  # noqa: RUF012 - an instance variable to gym.Env's type
        "render_modes": ["ansi"],
        "render_fps": 4,
    }

    def __init__(
        self, goal: Sequence[int], *, size: int = 9, is_rewarded_once: bool = False, render_mode: str | None = None
    ) -> None:
        self.goal = parse_cell(goal, size=size, name="goal")
        self.size = size
        self.is_rewarded_once = is_rewarded_once
        self.start = (size // 2, size // 2)
        self.render_mode = render_mode
        self.observation_space = gym.spaces.MultiDiscrete([size, size])
        self.action_space = gym.spaces.Discrete(len(MOVES))
        self._start_episode()

    def _start_episode(self) -> None:
        self._position = np.array(self.start)
        self._was_rewarded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Int64[np.ndarray, "2"], dict[str, Any]]:
        """Return to the centre."""
        super().reset(seed=seed, options=options)
        self._start_episode()
        return self._position.copy(), {}

    def step(self, action: np.int64 | int) -> tuple[Int64[np.ndarray, "2"], float, bool, bool, dict[str, Any]]:
        """Move, and be rewarded if the move ends on the goal."""
        self._position = moved(self._position, action, size=self.size)
        is_there = (int(self._position[0]), int(self._position[1])) == self.goal
        reward = float(is_there and not (self.is_rewarded_once and self._was_rewarded))
        self._was_rewarded = self._was_rewarded or is_there
        return self._position.copy(), reward, False, False, {}

    def render(self) -> str | None:
        """Draw the room: `@` where the walker is, `G` for the goal."""
        if self.render_mode is None:
            return None
        signs = {self.goal: "G", (int(self._position[0]), int(self._position[1])): "@"}
        rows = [" ".join(signs.get((x, y), "·") for x in range(self.size)) for y in reversed(range(self.size))]
        return "\n".join(rows)


class BatchedDarkRoom:
    """Many dark rooms of one size, stepped by one array operation."""

    def __init__(
        self,
        goals: Sequence[Cell],
        *,
        size: int,
        is_rewarded_once: bool,
        max_episode_steps: int,
        start: Cell | None = None,
    ) -> None:
        self.num_envs = len(goals)
        self.tasks: tuple[Task, ...] = tuple({"goal": [x, y]} for x, y in goals)
        self.observation_space: gym.Space[Any] = gym.spaces.MultiDiscrete([size, size])
        self.action_space: gym.Space[Any] = gym.spaces.Discrete(len(MOVES))
        self.source_observation_space: gym.Space[Any] | None = None
        self._size = size
        self._is_rewarded_once = is_rewarded_once
        self._max_episode_steps = max_episode_steps
        self._goals = np.array(goals, dtype=np.int64).reshape(self.num_envs, 2)
        self._start = np.array(start or (size // 2, size // 2), dtype=np.int64)
        self._positions = np.tile(self._start, (self.num_envs, 1))
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self._was_rewarded = np.zeros(self.num_envs, dtype=bool)

    def source_observation(self) -> Int64[np.ndarray, "num_envs 2"]:
        """Return the observation: the source sees no more."""
        return self._positions.copy()

    def expert_actions(self) -> Int64[np.ndarray, " num_envs"]:
        """Return a step of a shortest way to the goal, and to stay there."""
        return steps_towards(self._positions, self._goals)

    def state(self) -> dict[str, np.ndarray]:
        """Return where everybody is in the room and in the episode."""
        return {
            "positions": self._positions.copy(),
            "elapsed": self._elapsed.copy(),
            "was_rewarded": self._was_rewarded.copy(),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to a state."""
        self._positions = state["positions"].astype(np.int64)
        self._elapsed = state["elapsed"].astype(np.int64)
        self._was_rewarded = state["was_rewarded"].astype(bool)

    def reset(
        self, mask: Bool[np.ndarray, " num_envs"] | None = None, *, seeds: Sequence[int | None] | None = None
    ) -> Int64[np.ndarray, "num_envs 2"]:
        """Put the walkers of `mask` (all without one) back to the start; nothing is random, `seeds` change nothing."""
        where = slice(None) if mask is None else mask
        self._positions[where] = self._start
        self._elapsed[where] = 0
        self._was_rewarded[where] = False
        return self._positions.copy()

    def step(
        self, actions: Int[np.ndarray, " num_envs"]
    ) -> tuple[
        Int64[np.ndarray, "num_envs 2"],
        Float32[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
    ]:
        """Move every walker; those that have walked `max_episode_steps` are truncated, nobody is terminated."""
        self._positions = moved(self._positions, actions, size=self._size)
        matches = self._positions == self._goals
        is_there = matches[:, 0] & matches[:, 1]  # a third of the time of .all(axis=1)
        is_paid = is_there & ~self._was_rewarded if self._is_rewarded_once else is_there
        self._was_rewarded |= is_there
        self._elapsed += 1
        truncated = self._elapsed >= self._max_episode_steps
        return self._positions.copy(), is_paid.astype(np.float32), np.zeros(self.num_envs, dtype=bool), truncated


@dataclass(frozen=True, slots=True, kw_only=True)
class DarkRoomFamily:
    """One goal of a square grid a task."""

    arguments: ClassVar[tuple[str, ...]] = ("size", "max_episode_steps")
    is_batched: ClassVar[bool] = True

    name: str
    version: int
    env_id: str
    size: int
    is_rewarded_once: bool
    max_episode_steps: int = 20
    args: dict[str, JsonValue] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        check_room(self, largest=LARGEST_SIZE)

    @property
    def num_tasks(self) -> int:
        """One task a cell."""
        return self.size * self.size

    @property
    def observation_space(self) -> gym.spaces.MultiDiscrete:
        """The own (x, y)."""
        return gym.spaces.MultiDiscrete([self.size, self.size])

    @property
    def action_space(self) -> gym.spaces.Discrete:
        """Right, left, up, down, stay."""
        return gym.spaces.Discrete(len(MOVES))

    def tasks(self) -> list[Task]:
        """List the goals column by column: (0, 0), (0, 1), ..."""
        return [{"goal": [x, y]} for x in range(self.size) for y in range(self.size)]

    def task_of_seed(self, seed: int) -> Task:
        """Return the task of a learner's seed, `P[seed % num_tasks]`."""
        return self.tasks()[permutation(self.name, self.version, self.num_tasks)[seed % self.num_tasks]]

    def make(self, task: Mapping[str, JsonValue]) -> gym.Env[Any, Any]:
        """Make the registered environment."""
        return gym.make(self.env_id, goal=self._goal(task), size=self.size, max_episode_steps=self.max_episode_steps)

    def make_batched(self, tasks: Sequence[Mapping[str, JsonValue]]) -> BatchedDarkRoom:
        """Make one room for each entry of `tasks`, stepped together."""
        return BatchedDarkRoom(
            [self._goal(task) for task in tasks],
            size=self.size,
            is_rewarded_once=self.is_rewarded_once,
            max_episode_steps=self.max_episode_steps,
        )

    def best_return(self, task: Mapping[str, JsonValue]) -> float:
        """Return what the shortest way earns: the first reward falls on the step that arrives."""
        x, y = self._goal(task)
        distance = abs(x - self.size // 2) + abs(y - self.size // 2)
        num_steps_there = max(self.max_episode_steps - max(distance, 1) + 1, 0)
        return float(min(num_steps_there, 1) if self.is_rewarded_once else num_steps_there)

    def random_return(self, task: Mapping[str, JsonValue]) -> float:
        """Return the exact expected return of uniformly random actions."""
        return _random_return(self, self._goal(task))

    def draw_episode(
        self,
        task: Mapping[str, JsonValue],
        observations: Int[np.ndarray, "time 2"],
        actions: Int[np.ndarray, " time"],
        rewards: Shaped[np.ndarray, " time"],
    ) -> str:
        """Render one episode on the grid."""
        return drawn_episode(observations, actions, rewards, targets={self._goal(task): "[]"}, size=self.size)

    def _goal(self, task: Mapping[str, JsonValue]) -> Cell:
        if set(task) != {"goal"}:
            raise InvalidValue(f"task: expected one key, 'goal', got {sorted(task)}. Give {{'goal': [x, y]}}.")
        return parse_cell(task["goal"], size=self.size, name="goal")


@cache
def _random_return(family: DarkRoomFamily, goal: Cell) -> float:
    start = (family.size // 2, family.size // 2)
    arrivals = random_arrivals(
        start, goal, size=family.size, num_steps=family.max_episode_steps, is_absorbing=family.is_rewarded_once
    )
    return float(arrivals.sum())


FAMILY = DarkRoomFamily(name="darkroom", version=1, env_id="historystore/DarkRoom-v0", size=9, is_rewarded_once=False)
