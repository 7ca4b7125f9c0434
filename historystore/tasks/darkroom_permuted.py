"""Darkroom-Permuted: one known goal, and buttons that do something else in every task.

A variant by Lee et al., "Supervised Pretraining Can Learn In-Context Reinforcement Learning" (arXiv 2306.14892), as
Son et al. use it (arXiv 2502.19009): from the corner (0, 0) of Dark Room to the opposite one, rewarded on every step
that ends there, under each of the 120 orders of the five actions. An episode has 50 steps unless told otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, Shaped
from pydantic import JsonValue

from historystore.errors import InvalidValue
from historystore.tasks.arguments import check_room
from historystore.tasks.darkroom import LARGEST_SIZE, BatchedDarkRoom, DarkRoom
from historystore.tasks.grid import MOVES, Cell, drawn_episode, random_arrivals, steps_towards
from historystore.tasks.permutation import permutation
from historystore.tasks.protocol import Task

_START: Cell = (0, 0)
Order = tuple[int, ...]
"""The move that each action makes: right, left, up, down and stay are 0 to 4."""


def parse_order(value: object) -> Order:
    """Return an order of the moves.

    Raises:
        InvalidValue: it is not each of the numbers 0 to 4 once.
    """
    order = tuple(value) if isinstance(value, (list, tuple, np.ndarray)) else ()
    is_whole = all(isinstance(move, (int, np.integer)) and not isinstance(move, bool) for move in order)
    if not is_whole or sorted(order) != list(range(len(MOVES))):
        raise InvalidValue(
            f"permutation: expected the numbers 0 to {len(MOVES) - 1} in some order, got {value!r}. Give such a list."
        )
    return tuple(int(move) for move in order)


class PermutedDarkRoom(DarkRoom):
    """Walk from one corner of a dark room to the opposite one; action `a` makes the move `permutation[a]`."""

    def __init__(self, permutation: Sequence[int], *, size: int = 9, render_mode: str | None = None) -> None:
        super().__init__((size - 1, size - 1), size=size, render_mode=render_mode)
        self.permutation = parse_order(permutation)
        self.start = _START
        self._start_episode()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Int64[np.ndarray, "2"], dict[str, Any]]:
        """Return to the corner (0, 0)."""
        return super().reset(seed=seed, options=options)

    def step(self, action: np.int64 | int) -> tuple[Int64[np.ndarray, "2"], float, bool, bool, dict[str, Any]]:
        """Make the action's move, and be rewarded if it ends on the goal."""
        return super().step(self.permutation[action])


class BatchedPermutedDarkRoom(BatchedDarkRoom):
    """Many permuted dark rooms of one size, stepped by one array operation."""

    def __init__(self, orders: Sequence[Order], *, size: int, max_episode_steps: int) -> None:
        goals = [(size - 1, size - 1)] * len(orders)
        super().__init__(goals, size=size, is_rewarded_once=False, max_episode_steps=max_episode_steps, start=_START)
        self.tasks: tuple[Task, ...] = tuple({"permutation": [*order]} for order in orders)
        self._orders = np.array(orders, dtype=np.int64).reshape(self.num_envs, len(MOVES))
        self._actions = self._orders.argsort(axis=1)
        self._rows = np.arange(self.num_envs)

    def expert_actions(self) -> Int64[np.ndarray, " num_envs"]:
        """Return the way to the goal, and there stay."""
        actions: Int64[np.ndarray, " num_envs"] = self._actions[self._rows, steps_towards(self._positions, self._goals)]
        return actions

    def step(
        self, actions: Int[np.ndarray, " num_envs"]
    ) -> tuple[
        Int64[np.ndarray, "num_envs 2"],
        Float32[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
    ]:
        """Make every action's move; see `BatchedDarkRoom`."""
        return super().step(self._orders[self._rows, actions])


@dataclass(frozen=True, slots=True, kw_only=True)
class PermutedFamily:
    """One order of the actions a task."""

    arguments: ClassVar[tuple[str, ...]] = ("size", "max_episode_steps")
    is_batched: ClassVar[bool] = True
    num_tasks: ClassVar[int] = 120

    name: str = "darkroom-permuted"
    version: int = 1
    env_id: str = "historystore/DarkRoomPermuted-v0"
    size: int = 9
    max_episode_steps: int = 50
    args: dict[str, JsonValue] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        check_room(self, largest=LARGEST_SIZE)

    @property
    def observation_space(self) -> gym.spaces.MultiDiscrete:
        """The own (x, y)."""
        return gym.spaces.MultiDiscrete([self.size, self.size])

    @property
    def action_space(self) -> gym.spaces.Discrete:
        """Five buttons."""
        return gym.spaces.Discrete(len(MOVES))

    def tasks(self) -> list[Task]:
        """List the orders as a dictionary would: (0, 1, 2, 3, 4), (0, 1, 2, 4, 3), ..."""
        return [{"permutation": [*order]} for order in permutations(range(len(MOVES)))]

    def task_of_seed(self, seed: int) -> Task:
        """Return the task of a learner's seed, `P[seed % num_tasks]`."""
        return self.tasks()[permutation(self.name, self.version, self.num_tasks)[seed % self.num_tasks]]

    def make(self, task: Mapping[str, JsonValue]) -> gym.Env[Any, Any]:
        """Make the registered environment."""
        return gym.make(self.env_id, permutation=_order(task), size=self.size, max_episode_steps=self.max_episode_steps)

    def make_batched(self, tasks: Sequence[Mapping[str, JsonValue]]) -> BatchedPermutedDarkRoom:
        """Make one room for each entry of `tasks`, stepped together."""
        orders = [_order(task) for task in tasks]
        return BatchedPermutedDarkRoom(orders, size=self.size, max_episode_steps=self.max_episode_steps)

    def best_return(self, task: Mapping[str, JsonValue]) -> float:
        """Return what the shortest way earns: the first reward falls on the step that arrives."""
        return float(max(self.max_episode_steps - 2 * (self.size - 1) + 1, 0))

    def random_return(self, task: Mapping[str, JsonValue]) -> float:
        """Return the exact expected return of uniformly random actions, the same under every order."""
        goal = (self.size - 1, self.size - 1)
        steps = self.max_episode_steps
        return float(random_arrivals(_START, goal, size=self.size, num_steps=steps, is_absorbing=False).sum())

    def draw_episode(
        self,
        task: Mapping[str, JsonValue],
        observations: Int[np.ndarray, "time 2"],
        actions: Int[np.ndarray, " time"],
        rewards: Shaped[np.ndarray, " time"],
    ) -> str:
        """Render one episode on the grid: the moves that were made, and beneath them the actions that made them."""
        moves, targets = np.array(_order(task))[actions], {(self.size - 1, self.size - 1): "[]"}
        drawing = drawn_episode(observations, moves, rewards, targets=targets, size=self.size)
        return f"{drawing.replace('actions  ', 'moves    ')}\nactions  {''.join(map(str, actions))}"


def _order(task: Mapping[str, JsonValue]) -> Order:
    if set(task) != {"permutation"}:
        raise InvalidValue(f"task: expected one key, 'permutation', got {sorted(task)}. Give {{'permutation': [...]}}.")
    return parse_order(task["permutation"])


FAMILY = PermutedFamily()
