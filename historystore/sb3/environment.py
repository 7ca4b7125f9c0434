"""What the environments of a learner are: family, arguments and task, read off the environments themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

from historystore import tasks
from historystore.errors import InvalidValue
from historystore.recording.vec_env import BatchedVecEnv
from historystore.sb3.describe import Json, described, import_path
from historystore.sb3.layers import split_layers

_WATCHING = (Monitor, OrderEnforcing, PassiveEnvChecker)
_WATCHING_MANY = (VecCheckNan, VecMonitor, VecTransposeImage, VecVideoRecorder)
_SETTINGS: dict[type[VecEnvWrapper], tuple[str, ...]] = {
    VecFrameStack: ("stacked_obs.n_stack",),
    VecNormalize: (
        *("training", "norm_obs", "norm_obs_keys", "norm_reward"),
        *("clip_obs", "clip_reward", "gamma", "epsilon"),
    ),
}
_SHOWN: dict[str, dict[str, Json]] = {"dark-key-to-door": {"source": "plain"}}
"""Arguments of families whose single environments show a learner less than the family does by default."""
_INNERMOST = re.compile(r"<(?P<kind>[^<>]+?)(?:<(?P<id>[^<>]+)>| instance)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFacts:
    """What is known of a learner's environments."""

    name: str
    """The Gymnasium id, or the class's name where the environment was not made by `gymnasium.make`."""
    family: str
    env_args: dict[str, Json]
    """Arguments that are not the registered ones, and the wrappers that change what the learner lives through."""
    tasks: tuple[dict[str, Json], ...]
    """The task of each stream; empty where the environments do not tell."""

    def task_of_all_streams(self) -> dict[str, Json]:
        """Return the one task of the learner.

        Raises:
            InvalidValue: the streams have different ones.
        """
        if any(task != self.tasks[0] for task in self.tasks[1:]):
            raise InvalidValue(
                f"{self.name}: the streams of one learner have different tasks, expected one. "
                "Record one learner a task, or describe the mixture with HistoryRecorder(..., task={...})."
            )
        return self.tasks[0] if self.tasks else {}


def env_facts(model: BaseAlgorithm) -> EnvFacts:
    """Return what the environments of a model tell about themselves."""
    env = model.get_env()
    assert env is not None, "learn() refuses a model without an environment"
    wrappers, inner = split_layers(env)
    facts = _bare_facts(inner)
    layers = [_layer(wrapper) for wrapper in reversed(wrappers) if not isinstance(wrapper, _WATCHING_MANY)]
    args = facts.env_args | ({"vec_wrappers": layers} if layers else {})
    return EnvFacts(name=facts.name, family=facts.family, env_args=args, tasks=facts.tasks)


def _bare_facts(env: VecEnv) -> EnvFacts:
    if isinstance(env, DummyVecEnv):
        return _gym_facts(env.envs)
    if isinstance(env, BatchedVecEnv):
        name = type(env.envs).__name__
        return EnvFacts(name=name, family=name, env_args={}, tasks=env.envs.tasks)
    return _remote_facts(env)


def _gym_facts(envs: Sequence[gym.Env[Any, Any]]) -> EnvFacts:
    env, specs = envs[0], [one.unwrapped.spec for one in envs]
    limit = next((wrapper for wrapper in _wrappers(env) if isinstance(wrapper, TimeLimit)), None)
    layers = [_wrapper(one) for one in _wrappers(env) if one is not limit and not isinstance(one, _WATCHING)]
    args: dict[str, Json] = {"wrappers": layers} if layers else {}
    args |= _changed_steps(specs[0], None if limit is None else limit._max_episode_steps)
    if specs[0] is not None and not args and (family := _family_of(specs[0].id)) is not None:
        return _family_facts(family, specs)
    name = type(env.unwrapped).__qualname__ if specs[0] is None else specs[0].id
    told = [getattr(one.unwrapped, "task", None) for one in envs]
    found = tuple(_task(task) for task in told if isinstance(task, Mapping))
    return EnvFacts(name=name, family=name, env_args=_changed_kwargs(specs[0]) | args, tasks=found)


def _remote_facts(env: VecEnv) -> EnvFacts:
    """Return what environments in other processes tell as text.

    Their `spec` is asked for only where it is known to cross a process border: an attribute that cannot be pickled
    would end the process that holds it.
    """
    try:
        text = str(env.env_method("__str__")[0])
    except (AttributeError, NotImplementedError):
        text = ""
    match = _INNERMOST.search(text)
    if match is None:
        return EnvFacts(name=type(env).__name__, family=type(env).__name__, env_args={}, tasks=())
    name = str(match["id"] or match["kind"])
    expected = {"", *(cls.__name__ for cls in (*_WATCHING, TimeLimit))}
    layers: list[Json] = [{"class": name} for name in text[: match.start()].split("<") if name not in expected]
    family = _family_of(name)
    if family is not None and not layers:
        specs = env.get_attr("spec")
        if not _changed_steps(specs[0], specs[0].max_episode_steps):
            return _family_facts(family, specs)
    args: dict[str, Json] = {"wrappers": layers[::-1]} if layers else {}
    return EnvFacts(name=name, family=name, env_args=args, tasks=())


def _family_of(env_id: str) -> tasks.Family | None:
    families = [tasks.family(name) for name in tasks.families()]
    return next((family for family in families if family.env_id == env_id), None)


def _family_facts(family: tasks.Family, specs: Sequence[Any]) -> EnvFacts:
    """Return the facts of environments of a known family: what is no argument of the family is the task."""
    changed = [_changed_kwargs(spec) for spec in specs]
    args = {key: value for key, value in changed[0].items() if key in family.arguments}
    found = tuple({key: value for key, value in one.items() if key not in args} for one in changed)
    return EnvFacts(name=family.env_id, family=family.name, env_args=args | _SHOWN.get(family.name, {}), tasks=found)


def _changed_kwargs(spec: Any) -> dict[str, Json]:
    """Return the arguments of `gymnasium.make` that are not those of the registration."""
    if spec is None:
        return {}
    registered = gym.registry.get(spec.id)
    defaults = {} if registered is None else {key: described(value) for key, value in registered.kwargs.items()}
    given = {key: described(value) for key, value in spec.kwargs.items() if key != "render_mode"}
    return {key: value for key, value in given.items() if key not in defaults or defaults[key] != value}


def _changed_steps(spec: Any, max_episode_steps: int | None) -> dict[str, Json]:
    """Return the time limit where it is not that of the registration."""
    registered = None if spec is None else gym.registry.get(spec.id)
    is_registered = max_episode_steps == (None if registered is None else registered.max_episode_steps)
    return {} if is_registered else {"max_episode_steps": max_episode_steps}


def _task(task: Mapping[Any, Any]) -> dict[str, Json]:
    return {str(key): described(value) for key, value in task.items()}


def _wrappers(env: gym.Env[Any, Any]) -> Iterator[gym.Wrapper[Any, Any, Any, Any]]:
    """Yield the wrappers of an environment from the innermost outwards."""
    if isinstance(env, gym.Wrapper):
        yield from _wrappers(env.env)
        yield env


def _wrapper(wrapper: gym.Wrapper[Any, Any, Any, Any]) -> Json:
    return {"class": import_path(type(wrapper)), "args": described(getattr(wrapper, "_saved_kwargs", {}))}


def _layer(wrapper: VecEnvWrapper) -> Json:
    settings: dict[str, Json] = {"class": import_path(type(wrapper))}
    for path in _SETTINGS.get(type(wrapper), ()):
        settings[path.rpartition(".")[2]] = described(attrgetter(path)(wrapper))
    return settings
