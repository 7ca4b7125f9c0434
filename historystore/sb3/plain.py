"""Values of a model as JSON that can be read back, without running anything that the JSON names but known classes.

Numbers, text, None and lists stand for themselves; every other value is an object with one key that tells its kind.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from historystore.errors import DamagedData
from historystore.sb3.describe import Json

_CLASSES = (BaseAlgorithm, BaseBuffer, np.generic, th.nn.Module, th.optim.Optimizer)
_OBJECTS = (ActionNoise, ConstantSchedule, FloatSchedule, LinearSchedule)


class NotPlainError(Exception):
    """A value that cannot be written such that it can be read back."""


def to_plain(value: Any) -> Json:
    """Return a value as JSON from which `from_plain` makes it again.

    Raises:
        NotPlainError: there is no such JSON.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"dict": {key: to_plain(item) for key, item in value.items()}}
    if isinstance(value, TrainFreq):
        return {"train_freq": [value.frequency, value.unit.value]}
    if isinstance(value, tuple) and type(value) is tuple:
        return {"tuple": [to_plain(item) for item in value]}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
        return {"array": {"dtype": value.dtype.str, "values": to_plain(value.tolist())}}
    if isinstance(value, type):
        return {"class": class_path(value)}
    if isinstance(value, _OBJECTS):
        return {"object": {"class": class_path(type(value)), "state": to_plain(vars(value))}}
    raise NotPlainError(type(value).__name__)


def from_plain(value: Json) -> Any:
    """Return the value that `to_plain` took apart.

    Raises:
        DamagedData: it names a class that is not installed, or one that no model is made of.
    """
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    return _READERS[kind](content)


def class_path(cls: type) -> str:
    """Return a class's import path as ``module:Name``.

    Raises:
        NotPlainError: importing it again would not find it.
    """
    path = f"{cls.__module__}:{cls.__qualname__}"
    if cls.__module__ == "__main__" or _found(path) is not cls:
        raise NotPlainError(path)
    return path


def load_class(path: Any) -> type:
    """Return the class at an import path, if models are made of such.

    Raises:
        DamagedData: it is not installed, or is of no kind that models are made of.
    """
    found = _found(path)
    if found is None:
        raise DamagedData(
            f"checkpoint: {path} cannot be imported, expected a class that models are made of. Install the package it "
            "is in, or name the folder of its module in PYTHONPATH."
        )
    if not isinstance(found, type) or not issubclass(found, _CLASSES + _OBJECTS):
        raise DamagedData(f"checkpoint: {path} is not a class that models are made of. Do not trust this store.")
    return found


def _found(path: str) -> Any:
    module, _, names = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError, ValueError):
        return None
    return found


def _array(content: Any) -> Any:
    return np.array(from_plain(content["values"]), dtype=content["dtype"])


def _object(content: Any) -> Any:
    made: Any = object.__new__(load_class(content["class"]))
    vars(made).update(from_plain(content["state"]))
    return made


_READERS: dict[str, Any] = {
    "array": _array,
    "class": load_class,
    "dict": lambda content: {key: from_plain(item) for key, item in content.items()},
    "float": float,
    "object": _object,
    "train_freq": lambda content: TrainFreq(content[0], TrainFrequencyUnit(content[1])),
    "tuple": lambda content: tuple(from_plain(item) for item in content),
}
