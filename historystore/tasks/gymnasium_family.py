"""Any Gymnasium id as a family of one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
from pydantic import JsonValue

from historystore.errors import InvalidValue
from historystore.tasks.looped import LoopedFamily
from historystore.tasks.making import EnvFacts, facts_of, made
from historystore.tasks.protocol import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class GymnasiumFamily(LoopedFamily):
    """One registered environment with some arguments of `gymnasium.make`."""

    version: ClassVar[int] = 1
    num_tasks: ClassVar[int] = 1

    name: str
    args: dict[str, JsonValue]
    facts: EnvFacts

    @property
    def env_id(self) -> str:
        """The name."""
        return self.name

    @property
    def arguments(self) -> tuple[str, ...]:
        """Whatever was given: only the environment knows what it takes."""
        return tuple(self.args)

    @property
    def observation_space(self) -> gym.Space[Any]:
        """The environment's own."""
        return self.facts.observation_space

    @property
    def action_space(self) -> gym.Space[Any]:
        """The environment's own."""
        return self.facts.action_space

    @property
    def max_episode_steps(self) -> int | None:
        """The limit that the environment is registered with or was given; None where there is none."""
        return self.facts.max_episode_steps

    def tasks(self) -> list[Task]:
        """List the one task, which has no parameters."""
        return [{}]

    def task_of_seed(self, seed: int) -> Task:
        """Return the one task."""
        return {}

    def make(self, task: Mapping[str, JsonValue]) -> gym.Env[Any, Any]:
        """Make the environment."""
        if task:
            raise InvalidValue(f"task: {self.name} has a single task without parameters, got {dict(task)}. Give {{}}.")
        return made(self.name, self.args, families=())


def gymnasium_family(name: str, args: Mapping[str, JsonValue], *, families: Sequence[str]) -> GymnasiumFamily:
    """Return the family of a Gymnasium id, after making the environment once.

    `families` are other names that a misspelt id may be meant for.

    Raises:
        InvalidValue: nothing is called so, or it does not take these arguments.
        MissingExtra: a package that it needs is not installed.
    """
    facts = facts_of(made(name, args, families=families))
    registered = gym.registry.get(name.rpartition(":")[2])
    defaults: dict[str, Any] = {}
    if registered is not None:
        defaults = {"max_episode_steps": registered.max_episode_steps, **registered.kwargs}
    changed = {key: value for key, value in sorted(args.items()) if key not in defaults or defaults[key] != value}
    return GymnasiumFamily(name=name, args=changed, facts=facts)
