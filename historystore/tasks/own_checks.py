"""What a user's family must offer, with one line for each thing that can be wrong with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import gymnasium as gym
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
    if not hasattr(own, "tasks"):
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


def checked_return(own: Any, method: str, task: Mapping[str, JsonValue], *, name: str) -> float | None:
    """Return the number that an optional method gives, None without it."""
    if not hasattr(own, method):
        return None
    value = called(getattr(own, method), dict(task), where=f"{name}.{method}")
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise InvalidValue(f"{name}: {method} gives {_short(value)}, expected a number or None. Correct it.") from None


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
