"""A family of tasks from a user's own module, by the reference `my_package:MyFamily`.

What the class offers, all of it plain Python::

    class MyFamily:
        def tasks(self): ...                  # every task, as a list of dicts; or instead, where they are endless:
        def draw_task(self, generator): ...   # one task, a dict, drawn from a numpy Generator
        def make(self, task): ...             # the Gymnasium environment of a task

and may offer: `best_return(task)`, `random_return(task)`, `make_batched(tasks)` (a `BatchedEnv`),
`draw_episode(task, observations, actions, rewards)` (text), and the attributes `version` (1) and `max_episode_steps`
(where episodes are cut). The keyword arguments of its constructor are what `--env-arg` sets.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Shaped
from pydantic import JsonValue

from historystore.errors import InvalidValue
from historystore.import_paths import import_module
from historystore.tasks.looped import LoopedEnvs
from historystore.tasks.making import EnvFacts, facts_of
from historystore.tasks.own_checks import (
    called,
    check_first_step,
    checked_class,
    checked_env,
    checked_limit,
    checked_return,
    checked_task,
    checked_tasks,
    checked_version,
)
from historystore.tasks.permutation import permutation
from historystore.tasks.protocol import BatchedEnv, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFamily:
    """What the user's object offers, and the rest filled in."""

    name: str
    """The reference by which it was found."""
    version: int
    args: dict[str, JsonValue]
    arguments: tuple[str, ...]
    own: Any
    listed: tuple[Task, ...]
    """Every task; none where they are endless."""
    facts: EnvFacts
    """Of the first task's environment: all must have the same spaces."""

    @property
    def env_id(self) -> str:
        """The reference: there is no Gymnasium id."""
        return self.name

    @property
    def is_batched(self) -> bool:
        """Whether the class steps many environments at once itself."""
        return hasattr(self.own, "make_batched")

    @property
    def num_tasks(self) -> int:
        """How many tasks there are; 0 when they are endless."""
        return len(self.listed)

    @property
    def observation_space(self) -> gym.Space[Any]:
        """The environments' own."""
        return self.facts.observation_space

    @property
    def action_space(self) -> gym.Space[Any]:
        """The environments' own."""
        return self.facts.action_space

    @property
    def max_episode_steps(self) -> int | None:
        """The class's own, or the limit of its environments."""
        limit: int | None = getattr(self.own, "max_episode_steps", None)
        return limit or self.facts.max_episode_steps

    def tasks(self) -> list[Task]:
        """List every task; none where they are endless."""
        return [dict(task) for task in self.listed]

    def task_of_seed(self, seed: int) -> Task:
        """Return `P[seed % num_tasks]`, or the task that is drawn from the seed."""
        if self.listed:
            return dict(self.listed[permutation(self.name, self.version, self.num_tasks)[seed % self.num_tasks]])
        return _drawn(self.own, seed, name=self.name)

    def make(self, task: Mapping[str, JsonValue]) -> gym.Env[Any, Any]:
        """Make the environment of a task.

        Raises:
            InvalidValue: the class gives none, or one with other spaces than the first task's.
        """
        env = _made(self.own, task, name=self.name)
        spaces = (self.facts.observation_space, self.facts.action_space)
        if (env.observation_space, env.action_space) != spaces:
            raise InvalidValue(
                f"{self.name}: task {dict(task)} has other spaces than the first task, expected {spaces[0]} and "
                f"{spaces[1]}, got {env.observation_space} and {env.action_space}. Make them the same."
            )
        return env

    def make_batched(self, tasks: Sequence[Mapping[str, JsonValue]]) -> BatchedEnv:
        """Make one environment for each entry of `tasks`: with the class's own method, else one after another."""
        if not self.is_batched:
            return LoopedEnvs(self.make, tasks)
        envs = called(self.own.make_batched, [dict(task) for task in tasks], where=f"{self.name}.make_batched")
        if not isinstance(envs, BatchedEnv):
            raise InvalidValue(
                f"{self.name}: make_batched gives a {type(envs).__name__}, expected what "
                "historystore.tasks.BatchedEnv lists. Add what lacks, or leave make_batched out."
            )
        expected = (len(tasks), self.observation_space, self.action_space)
        if (got := (envs.num_envs, envs.observation_space, envs.action_space)) != expected:
            raise InvalidValue(
                f"{self.name}: make_batched gives {_facts(got)}, expected {_facts(expected)} as make does. "
                "Make them the same."
            )
        return envs

    def best_return(self, task: Mapping[str, JsonValue]) -> float | None:
        """Return what the class says, None where it says nothing."""
        return checked_return(self.own, "best_return", task, name=self.name)

    def random_return(self, task: Mapping[str, JsonValue]) -> float | None:
        """Return what the class says, None where it says nothing."""
        return checked_return(self.own, "random_return", task, name=self.name)

    def draw_episode(
        self,
        task: Mapping[str, JsonValue],
        observations: Shaped[np.ndarray, time * shape],
        actions: Shaped[np.ndarray, time * action],
        rewards: Shaped[np.ndarray, " time"],
    ) -> str | None:
        """Render an episode as the class does, if it does."""
        if not hasattr(self.own, "draw_episode"):
            return None
        return str(self.own.draw_episode(dict(task), observations, actions, rewards))


def _facts(facts: tuple[int, gym.Space[Any], gym.Space[Any]]) -> str:
    return f"{facts[0]} environments that show {facts[1]} and take {facts[2]}"


def own_family(reference: str, args: Mapping[str, JsonValue]) -> OwnFamily:
    """Import the class at `module:Class`, instantiate it with `args`, and check what it offers.

    Nothing but a class that offers the methods is ever called: a reference may come from a store or run of others.

    Raises:
        InvalidValue: there is no such class, or it does not offer what a family must.
    """
    module, _, name = reference.partition(":")
    cls = checked_class(import_module(module, where="env"), name, reference=reference)
    parameters = {
        key: parameter.default
        for key, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    if unknown := set(args) - set(parameters):
        known = ", ".join(parameters) or "none"
        raise InvalidValue(
            f"--env-arg: {reference} has no argument {sorted(unknown)[0]!r}, expected {known}. Check the name."
        )
    own = called(partial(cls, **args), where=reference)
    checked_limit(own, name=reference)
    listed = checked_tasks(own, name=reference)
    first = listed[0] if listed else _drawn(own, 0, name=reference)
    for method in ("best_return", "random_return"):
        checked_return(own, method, first, name=reference)
    env = _made(own, first, name=reference)
    check_first_step(env, name=reference)
    return OwnFamily(
        name=reference,
        version=checked_version(own, name=reference),
        args={key: value for key, value in sorted(args.items()) if parameters[key] != value},
        arguments=tuple(parameters),
        own=own,
        listed=listed,
        facts=facts_of(env),
    )


def _made(own: Any, task: Mapping[str, JsonValue], *, name: str) -> gym.Env[Any, Any]:
    env = checked_env(called(own.make, dict(task), where=f"{name}.make"), name=name)
    limit = getattr(own, "max_episode_steps", None)
    return env if limit is None else gym.wrappers.TimeLimit(env, limit)


def _drawn(own: Any, seed: int, *, name: str) -> Task:
    """Return the task of a seed, drawn twice to see that it depends on nothing else."""
    task, again = (
        checked_task(called(own.draw_task, np.random.default_rng(seed), where=f"{name}.draw_task"), name=name)
        for _ in range(2)
    )
    if json.dumps(task) != json.dumps(again):
        raise InvalidValue(
            f"{name}: draw_task gives {task} and then {again} for one seed, expected the same task. "
            "Draw from the generator alone."
        )
    return task
