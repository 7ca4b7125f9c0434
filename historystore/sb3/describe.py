"""Any Python value as JSON that says the same in every process: for specifications, not for reading back."""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule
from stable_baselines3.common.vec_env import VecEnv

from historystore.documents import sha256_hex

Json: TypeAlias = Any
"""A JSON value; pydantic's own recursive type is beyond what annotations can be checked for at run time."""

_LARGEST_ARRAY = 1024
_DEPTH = 6
_PROGRESS = tuple(tenth / 10 for tenth in range(10, -1, -1))


def described(value: Any, *, depth: int = _DEPTH) -> Json:
    """Return a value as JSON without addresses, ids or anything else that changes from run to run.

    Plain values stay themselves, classes and functions become their import path, other objects their class and
    attributes. Nothing is refused: what cannot be told is left at its class.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, enum.Enum):
        return described(value.value, depth=depth)
    if isinstance(value, (np.ndarray, np.generic, th.Tensor)):
        return _array(np.asarray(value.detach().cpu() if isinstance(value, th.Tensor) else value))
    if isinstance(value, (th.device, th.dtype)):
        return str(value)
    if isinstance(value, type):
        return import_path(value)
    return _compound(value, depth=depth)


def _compound(value: Any, *, depth: int) -> Json:
    if depth == 0 or isinstance(value, (gym.Env, th.nn.Module, VecEnv)):
        return import_path(type(value))
    inner = functools.partial(described, depth=depth - 1)
    if isinstance(value, Mapping):
        return {str(key): inner(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [inner(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((inner(item) for item in value), key=repr)
    if isinstance(value, functools.partial):
        return {"function": inner(value.func), "args": inner(value.args), "kwargs": inner(value.keywords)}
    if hasattr(value, "__qualname__"):  # functions and methods
        return import_path(value)
    attributes: dict[str, Json] = {name.lstrip("_"): inner(item) for name, item in _attributes(value).items()}
    return {"class": import_path(type(value)), **attributes}


def _attributes(value: Any) -> dict[str, Any]:
    return dict(vars(value)) if hasattr(value, "__dict__") else {}


def _array(array: np.ndarray) -> Json:
    if array.size <= _LARGEST_ARRAY:
        return described(array.tolist())
    digest = sha256_hex(np.ascontiguousarray(array).tobytes())
    return {"dtype": array.dtype.str, "shape": list(array.shape), "sha256": digest}


def schedule_described(schedule: Any) -> Json:
    """Return a schedule as JSON: a constant as its number, another by its name and its values over the training.

    The values (at progress remaining 1.0, 0.9, ..., 0.0) tell two lambdas apart, which names cannot.
    """
    if isinstance(schedule, FloatSchedule):
        return schedule_described(schedule.value_schedule)
    if isinstance(schedule, ConstantSchedule):
        return described(schedule.val)
    if not callable(schedule):
        return described(schedule)
    name = import_path(schedule if hasattr(schedule, "__qualname__") else type(schedule))
    return {"schedule": name, "values": [described(float(schedule(progress))) for progress in _PROGRESS]}


def import_path(target: type | Callable[..., Any]) -> str:
    """Return where a class or function is defined, as ``module.Name``; names of a script stand alone."""
    module = getattr(target, "__module__", None)
    name = str(getattr(target, "__qualname__", type(target).__qualname__))
    return name if module in (None, "__main__", "builtins") else f"{module}.{name}"
