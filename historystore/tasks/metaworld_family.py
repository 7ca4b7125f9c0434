"""Meta-World's ML1 as families: one manipulation, and a task is where its goal and objects are.

Yu et al., "Meta-World: A Benchmark and Evaluation for Multi-Task and Meta Reinforcement Learning" (arXiv 1910.10897).
The observation does not hold the goal.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import gymnasium as gym
from pydantic import JsonValue

from historystore.errors import InvalidValue, MissingExtra
from historystore.tasks.arguments import configured
from historystore.tasks.looped import LoopedFamily
from historystore.tasks.making import facts_of, quiet
from historystore.tasks.permutation import permutation
from historystore.tasks.protocol import Task

_NUM_GOALS = 50
"""As many as the benchmark draws to train on."""
_LONGEST = 500
"""Steps after which the environment itself refuses more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaWorldFamily(LoopedFamily):
    """The goals that ML1 draws from one seed."""

    arguments: ClassVar[tuple[str, ...]] = ("goal_seed", "max_episode_steps")
    version: ClassVar[int] = 1
    num_tasks: ClassVar[int] = _NUM_GOALS

    name: str
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    goal_seed: int = 0
    max_episode_steps: int = _LONGEST
    args: dict[str, JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.max_episode_steps <= _LONGEST:
            raise InvalidValue(
                f"--env-arg max_episode_steps: expected 1 to {_LONGEST}, got {self.max_episode_steps}. "
                "Change the value."
            )
        if self.goal_seed < 0:
            raise InvalidValue(f"--env-arg goal_seed: expected 0 or more, got {self.goal_seed}. Change the value.")

    @property
    def env_id(self) -> str:
        """The name: Meta-World's own ids take no goal."""
        return self.name

    def tasks(self) -> list[Task]:
        """List the goals in the order in which ML1 draws them."""
        return [{"goal": goal} for goal in range(self.num_tasks)]

    def task_of_seed(self, seed: int) -> Task:
        """Return the task of a learner's seed, `P[seed % num_tasks]`."""
        return {"goal": permutation(self.name, self.version, self.num_tasks)[seed % self.num_tasks]}

    def make(self, task: Mapping[str, JsonValue]) -> gym.Env[Any, Any]:
        """Make the environment of a goal."""
        goal = task.get("goal")
        if set(task) != {"goal"} or type(goal) is not int or not 0 <= goal < self.num_tasks:
            raise InvalidValue(
                f"task: expected a goal from 0 to {self.num_tasks - 1}, got {dict(task)}. Give {{'goal': 17}}."
            )
        with quiet():
            benchmark = _benchmark(self.name.partition(":")[2], self.goal_seed)
            (environment,) = benchmark.train_classes.values()
            env = environment()
            env.set_task(benchmark.train_tasks[goal])
        return gym.wrappers.TimeLimit(env, self.max_episode_steps)


def metaworld_family(manipulation: str, args: Mapping[str, JsonValue]) -> MetaWorldFamily:
    """Return the family of one of ML1's manipulations, such as `reach-v3`.

    Raises:
        MissingExtra: Meta-World is not installed.
        InvalidValue: it has no such manipulation, or the arguments are not the family's.
    """
    if importlib.util.find_spec("metaworld") is None:
        raise MissingExtra("env: metaworld is not installed. Run pip install 'historystore[metaworld]'.")
    with quiet():
        from metaworld import ML1
    if manipulation not in ML1.ENV_NAMES:
        close = difflib.get_close_matches(manipulation, ML1.ENV_NAMES, n=3, cutoff=0.4)
        raise InvalidValue(
            f"env: metaworld:{manipulation} is none of Meta-World's {len(ML1.ENV_NAMES)} manipulations, expected one "
            f"such as {', '.join(close or ['reach-v3', 'push-v3'])}. Check the name."
        )
    name = f"metaworld:{manipulation}"
    with quiet():
        facts = facts_of(_benchmark(manipulation, 0).train_classes[manipulation]())
    default = MetaWorldFamily(name=name, observation_space=facts.observation_space, action_space=facts.action_space)
    return configured(default, args)


@cache
def _benchmark(manipulation: str, seed: int) -> Any:
    """Draw the goals; Meta-World puts NumPy's global generator back as it was."""
    from metaworld import ML1

    draw: Any = ML1
    return draw(manipulation, seed=seed)
