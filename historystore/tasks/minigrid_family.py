"""MiniGrid's environments as families: a task is one layout of the rooms.

A layout is what `reset(seed=layout)` draws: walls, doors, objects, where the walker starts, and (where it varies) the
mission. Every episode of a task begins in the same layout, which only acting in it gives away.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from jaxtyping import Int64
from pydantic import JsonValue

from historystore.errors import InvalidValue, MissingExtra
from historystore.tasks.arguments import check_counts, configured
from historystore.tasks.looped import LoopedFamily
from historystore.tasks.making import made, quiet
from historystore.tasks.permutation import permutation
from historystore.tasks.protocol import Task

_CELL = (11, 6, 4)
"""How many kinds, colours and states a cell of the view can have."""
_DIRECTIONS = 4


class LayoutEnv(gym.Wrapper[Int64[np.ndarray, " numbers"], Any, dict[str, Any], Any]):
    """One layout in every episode, seen as a row of discrete numbers: the view's cells, then the direction.

    The view of `n` x `n` cells comes as MiniGrid's `image` in C order, each cell as kind, colour, state. The mission's
    text is left out: a layout has one. Seeds given to `reset` change nothing.
    """

    def __init__(self, env: gym.Env[Any, Any], *, layout: int) -> None:
        super().__init__(env)
        self.task: Task = {"layout": layout}
        self._layout = layout
        cells = env.observation_space["image"].shape[:2]  # type: ignore[index]
        self.observation_space = gym.spaces.MultiDiscrete([*_CELL * (cells[0] * cells[1]), _DIRECTIONS])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Int64[np.ndarray, " numbers"], dict[str, Any]]:
        """Begin an episode in the layout."""
        obs, info = self.env.reset(seed=self._layout, options=options)
        return _flat(obs), info

    def step(self, action: int | np.int64) -> tuple[Int64[np.ndarray, " numbers"], float, bool, bool, dict[str, Any]]:
        """Take a step."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return _flat(obs), float(reward), terminated, truncated, info


def _flat(obs: Any) -> Int64[np.ndarray, " numbers"]:
    return np.append(obs["image"].ravel(), obs["direction"]).astype(np.int64)  # (x, y, 3) -> (x * y * 3 + 1,)


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniGridFamily(LoopedFamily):
    """The layouts 0, 1, 2, ... of one of MiniGrid's environments."""

    arguments: ClassVar[tuple[str, ...]] = ("layouts", "max_episode_steps")
    version: ClassVar[int] = 1

    env_id: str
    observation_space: gym.spaces.MultiDiscrete
    action_space: gym.spaces.Discrete
    max_episode_steps: int
    layouts: int = 100
    args: dict[str, JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_counts(self, *self.arguments)

    @property
    def name(self) -> str:
        """The environment's id behind `minigrid:`."""
        return f"minigrid:{self.env_id}"

    @property
    def num_tasks(self) -> int:
        """One task a layout."""
        return self.layouts

    def tasks(self) -> list[Task]:
        """List the layouts in order."""
        return [{"layout": layout} for layout in range(self.layouts)]

    def task_of_seed(self, seed: int) -> Task:
        """Return the task of a learner's seed, `P[seed % num_tasks]`."""
        return {"layout": permutation(self.name, self.version, self.layouts)[seed % self.layouts]}

    def make(self, task: Mapping[str, JsonValue]) -> gym.Env[Any, Any]:
        """Make the environment of a layout."""
        layout = task.get("layout")
        if set(task) != {"layout"} or type(layout) is not int or layout < 0:
            raise InvalidValue(f"task: expected a layout from 0 up, got {dict(task)}. Give {{'layout': 17}}.")
        return LayoutEnv(made(self.env_id, {"max_steps": self.max_episode_steps}, families=()), layout=layout)


def minigrid_family(env_id: str, args: Mapping[str, JsonValue]) -> MiniGridFamily:
    """Return the family of one of MiniGrid's ids, such as `MiniGrid-Empty-8x8-v0`.

    Raises:
        MissingExtra: MiniGrid is not installed.
        InvalidValue: it has no such environment, or the arguments are not the family's.
    """
    if importlib.util.find_spec("minigrid") is None:
        raise MissingExtra("env: minigrid is not installed. Run pip install 'historystore[minigrid]'.")
    with quiet():
        import minigrid  # noqa: F401 - which registers its environments
    if not env_id.startswith("MiniGrid-"):
        raise InvalidValue(
            f"env: minigrid:{env_id} names no environment of MiniGrid, expected an id such as "
            "minigrid:MiniGrid-Empty-8x8-v0. Check the name."
        )
    env = made(env_id, {}, families=())
    view = LayoutEnv(env, layout=0)
    assert isinstance(view.observation_space, gym.spaces.MultiDiscrete)
    assert isinstance(view.action_space, gym.spaces.Discrete)
    default = MiniGridFamily(
        env_id=env_id,
        observation_space=view.observation_space,
        action_space=view.action_space,
        max_episode_steps=env.unwrapped.max_steps,  # type: ignore[attr-defined]
    )
    env.close()
    return configured(default, args)
