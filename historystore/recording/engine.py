"""Stable-Baselines3 as the engine that learns (imports stable_baselines3)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import stable_baselines3
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from historystore import tasks
from historystore.documents import LearnerSpec
from historystore.errors import InvalidValue
from historystore.recording.vec_env import BatchedVecEnv

_CLASSES_IN = {"activation_fn": torch.nn, "optimizer_class": torch.optim}
"""Entries of `policy_kwargs` that are classes: a specification holds their names."""


def build_model(spec: LearnerSpec) -> BaseAlgorithm:
    """Build the learner of a specification, with its environments, on the CPU.

    Its logger writes nowhere: the one that `learn()` would make leaves a temporary directory behind.
    """
    family = tasks.family(spec.family)
    env = BatchedVecEnv(family.make_batched([spec.task] * spec.num_streams))
    algorithm = getattr(stable_baselines3, spec.algorithm)
    arguments = {name: _argument(name, value) for name, value in spec.hyperparameters.items()}
    model: BaseAlgorithm = algorithm(spec.policy, env, seed=spec.seed, device="cpu", **arguments)
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


class Watch(BaseCallback):
    """Call a function with the number of steps so far after every step; it may raise to end the learning."""

    def __init__(self, on_steps: Callable[[int], None]) -> None:
        super().__init__()
        self._on_steps = on_steps

    def _on_step(self) -> bool:
        self._on_steps(self.num_timesteps)
        return True


def _argument(name: str, value: Any) -> Any:
    """Return a hyperparameter as the constructor takes it: lists as tuples, names of classes as classes."""
    if name == "policy_kwargs" and isinstance(value, dict):
        kwargs = copy.deepcopy(value)
        return {key: _class(key, entry) if key in _CLASSES_IN else entry for key, entry in kwargs.items()}
    return tuple(value) if isinstance(value, list) else value


def _class(key: str, name: Any) -> type:
    found = getattr(_CLASSES_IN[key], name, None) if isinstance(name, str) else None
    if not isinstance(found, type):
        raise InvalidValue(f"policy_kwargs {key}: no class {name!r} in {_CLASSES_IN[key].__name__}. Check the name.")
    return found
