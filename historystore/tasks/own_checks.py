"""What a user's family must offer, with one line for each thing that can be wrong with it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
from pydantic import JsonValue

from historystore.errors import HistoryError, InvalidValue
from historystore.tasks.protocol import Task


def checked_class(module: ModuleType, name: str, *, reference: str) -> Any:
    """Return the class of that name, if it offers the methods of a family; it is not called."""
    found = getattr(module, name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and hasattr(value, "make")]
        raise InvalidValue(
            f"env: module {module.__name__} has no class {name!r}, expected one that offers a family's methods, got "
            f"{', '.join(classes) or 'none'}. Check the name."
        )
    lacking = [] if callable(getattr(found, "make", None)) else ["make(task)"]
    if not any(callable(getattr(found, method, None)) for method in ("tasks", "draw_task")):
        lacking.append("tasks() or draw_task(generator)")
    if lacking:
        raise InvalidValue(
            f"{reference}: the class lacks {' and '.join(lacking)}, expected the methods of a family. "
            "Add what lacks, or name a Gymnasium id by its version, as in my_package:MyEnv-v0."
        )
    return found


def called(function: Callable[..., Any], *args: Any, where: str, **kwargs: Any) -> Any:
    """Call what the user wrote; what it raises becomes one line that says where."""
    try:
        return function(*args, **kwargs)
    except HistoryError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")
        raise InvalidValue(f"{where}: raises {said}, expected a result. Correct it.") from error


def checked_tasks(own: Any, *, name: str) -> tuple[Task, ...]:
    """Return every task that the family lists; none where it draws them."""
    if not callable(getattr(own, "tasks", None)):
        return ()
    listed = called(own.tasks, where=f"{name}.tasks")
    if not isinstance(listed, list | tuple) or not listed:
        raise InvalidValue(
            f"{name}: tasks() gives {_short(listed)}, expected a list of at least one dict. "
            "Offer draw_task(generator) instead where tasks are endless."
        )
    tasks = tuple(checked_task(task, name=name) for task in listed)
    texts = [json.dumps(task, sort_keys=True) for task in tasks]
    if len(set(texts)) < len(texts):
        twice = Counter(texts).most_common(1)[0][0]
        raise InvalidValue(f"{name}: tasks() lists {twice} twice, expected each task once. Remove one.")
    return tasks


def checked_task(task: Any, *, name: str) -> Task:
    """Return a task as its JSON reads back: tuples become lists."""
    try:
        text = json.dumps(task, allow_nan=False) if isinstance(task, dict) else None
    except (TypeError, ValueError):
        text = None
    if text is None or not all(isinstance(key, str) for key in task):
        raise InvalidValue(
            f"{name}: {_short(task)} is no task, expected a dict of JSON values under text keys (finite numbers, text, "
            "true, false, null, lists, objects). Turn arrays into lists, and NumPy's numbers into Python's."
        )
    result: Task = json.loads(text)
    return result


def checked_env(env: Any, *, name: str) -> gym.Env[Any, Any]:
    """Return what `make` gave, if it is a Gymnasium environment."""
    if not isinstance(env, gym.Env):
        raise InvalidValue(
            f"{name}: make(task) gives a {type(env).__name__}, expected a gymnasium.Env. Return the environment."
        )
    return env


def check_first_step(env: gym.Env[Any, Any], *, name: str) -> None:
    """Begin an episode and take a step, so that what is wrong with every learner is said once."""
    begun = called(partial(env.reset, seed=0), where=f"{name}.make(task).reset")
    if not isinstance(begun, tuple) or len(begun) != 2:
        raise InvalidValue(f"{name}: reset gives {_short(begun)}, expected (observation, info). Return these two.")
    _check_observation(env.observation_space, begun[0], name=name, method="reset")
    env.action_space.seed(0)
    stepped = called(env.step, env.action_space.sample(), where=f"{name}.make(task).step")
    if not isinstance(stepped, tuple) or len(stepped) != 5:
        raise InvalidValue(
            f"{name}: step gives {_short(stepped)}, expected (observation, reward, terminated, truncated, info). "
            "Return these five."
        )
    _check_observation(env.observation_space, stepped[0], name=name, method="step")


def _check_observation(space: gym.Space[Any], obs: Any, *, name: str, method: str) -> None:
    if not _fits(space, obs):
        raise InvalidValue(
            f"{name}: {method} shows {_short(obs)}, expected an observation of {space}. Correct it, or the space."
        )


def _fits(space: gym.Space[Any], value: Any) -> bool:
    """Whether a value can be of a space; numbers of a Box may be of another dtype, or beyond its bounds."""
    if isinstance(space, gym.spaces.Dict):
        is_whole = isinstance(value, Mapping) and set(value) == set(space)
        return is_whole and all(_fits(part, value[key]) for key, part in space.items())
    return np.shape(value) == space.shape if isinstance(space, gym.spaces.Box) else space.contains(value)


def checked_return(own: Any, method: str, task: Mapping[str, JsonValue], *, name: str) -> float | None:
    """Return the number that an optional method gives, None without it."""
    if not hasattr(own, method):
        return None
    value = called(getattr(own, method), dict(task), where=f"{name}.{method}")
    try:
        number = None if value is None else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise InvalidValue(f"{name}: {method} gives {_short(value)}, expected a finite number or None. Correct it.")
    return number


def checked_version(own: Any, *, name: str) -> int:
    """Return the class's version, 1 where it has none."""
    return _whole(getattr(own, "version", 1), "version", name=name)


def checked_limit(own: Any, *, name: str) -> int | None:
    """Return after how many steps the class cuts episodes, None where it does not say."""
    limit = getattr(own, "max_episode_steps", None)
    return None if limit is None else _whole(limit, "max_episode_steps", name=name)


def _whole(value: Any, attribute: str, *, name: str) -> int:
    if type(value) is not int or value < 1:
        raise InvalidValue(f"{name}: {attribute} is {_short(value)}, expected a whole number above 0. Correct it.")
    return value


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
