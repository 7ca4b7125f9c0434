"""Making environments that others registered with Gymnasium, quietly, and with one line for what can go wrong."""

from __future__ import annotations

import difflib
import importlib.util
import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium import error
from pydantic import JsonValue

from historystore.errors import InvalidValue, MissingExtra
from historystore.import_paths import import_module

_REGISTERED_BY = {"ALE": ("ale_py", "'gymnasium[atari]'")}
"""Namespaces of ids, the module whose import registers them, and what installs it."""
_PREFIXES = {"MiniGrid": "minigrid"}
"""What ids begin with whose families are called by a prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFacts:
    """What one environment tells of all environments of its kind."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    max_episode_steps: int | None
    """None where no wrapper limits them."""


def facts_of(env: gym.Env[Any, Any]) -> EnvFacts:
    """Read an environment, and close it."""
    steps = None if env.spec is None else env.spec.max_episode_steps
    facts = EnvFacts(
        observation_space=env.observation_space, action_space=env.action_space, max_episode_steps=steps or _limit(env)
    )
    env.close()
    return facts


def made(env_id: str, args: Mapping[str, JsonValue], *, families: Sequence[str]) -> gym.Env[Any, Any]:
    """Make an environment by its Gymnasium id (`CartPole-v1`, `ALE/Pong-v5`, `module:Id-v0`).

    `families` are other names that a misspelt id may be meant for.

    Raises:
        InvalidValue: nothing is called so, or it does not take these arguments.
        MissingExtra: a package that it needs is not installed.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        with quiet():
            import_module(module, where="env")
    _import_provider(name)
    keywords: dict[str, Any] = dict(args)
    with quiet():
        try:
            return gym.make(name, disable_env_checker=True, **keywords)
        except error.DependencyNotInstalled as problem:
            raise _missing(env_id, problem) from problem
        except error.Error as problem:
            raise _unknown(env_id, problem, families) from problem
        except ImportError as problem:
            raise _missing(env_id, problem) from problem
        except Exception as problem:  # environments of others raise anything
            given = ", ".join(f"{key}={value}" for key, value in args.items()) or "no arguments"
            raise InvalidValue(
                f"env: {env_id} cannot be made with {given}, {type(problem).__name__}: {_line(problem)}. "
                "Change --env-arg."
            ) from problem


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what packages of others say while they load off the terminal: banners, and advice about versions."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _import_provider(name: str) -> None:
    namespace = name.rpartition("/")[0]
    if namespace not in _REGISTERED_BY or name in gym.registry:
        return
    module, install = _REGISTERED_BY[namespace]
    if importlib.util.find_spec(module) is None:
        raise MissingExtra(f"env: {name} needs a package that is not installed. Run pip install {install}.")
    with quiet():
        import_module(module, where="env")


def _limit(env: gym.Env[Any, Any]) -> int | None:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, gym.wrappers.TimeLimit):
            return env._max_episode_steps
        env = env.env
    return None


def _missing(env_id: str, problem: Exception) -> MissingExtra:
    return MissingExtra(f"env: {env_id} needs a package that is not installed: {_line(problem)}.")


def _unknown(env_id: str, problem: Exception, families: Sequence[str]) -> InvalidValue:
    """Return the error for a name that nothing has, with what may be meant."""
    if isinstance(problem, error.DeprecatedEnv | error.VersionNotFound):
        return InvalidValue(f"env: {_line(problem)}. Change the version.")
    prefix = _PREFIXES.get(env_id.partition("-")[0])
    others = [*families, *([f"{prefix}:{env_id}"] if prefix else [])]
    folded = {name.lower(): name for name in [*gym.registry, *others]}
    close = difflib.get_close_matches(env_id.lower(), folded, n=3)
    meant = " or ".join(folded[name] for name in close)
    advice = f"Did you mean {meant}?" if meant else "Check the name."
    return InvalidValue(
        f"env: nothing is called {env_id!r}, expected one of {', '.join(families)}, a Gymnasium id such as "
        f"CartPole-v1, or a class of your own such as my_package:MyFamily. {advice}"
    )


def _line(problem: Exception) -> str:
    return " ".join(str(problem).split()).rstrip(".")
