"""The specification of a learner, read off a Stable-Baselines3 model that is about to learn."""

from __future__ import annotations

import hashlib
import inspect
import secrets
from collections.abc import Mapping
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import FloatSchedule

from historystore.documents import LearnerSpec
from historystore.recording.signature import NOT_HYPERPARAMETERS
from historystore.sb3.describe import Json, described, import_path, schedule_described
from historystore.sb3.environment import EnvFacts

_NOT_ATTRIBUTES = {"self", "policy", "env"} | NOT_HYPERPARAMETERS


def learner_spec(
    model: BaseAlgorithm, facts: EnvFacts, *, family: str | None, task: Mapping[str, Any] | None
) -> LearnerSpec:
    """Return what defines the learner that `model.learn()` is starting.

    A model without a seed cannot be made again, so each of its runs is a learner of its own: a random
    ``unseeded_run`` tells it apart. A model that has learned before is defined by the parameters it sets out from as
    well: ``starts_from`` holds their digest. So every call of ``learn()`` is a learner of its own.
    """
    hyperparameters = hyperparameters_of(model)
    if model.seed is None:
        hyperparameters["unseeded_run"] = secrets.token_hex(16)
    if model._n_updates > 0:
        hyperparameters["starts_from"] = parameters_digest(model)
    return LearnerSpec(
        family=facts.family if family is None else family,
        env_args=facts.env_args,
        task=facts.task_of_all_streams()
        if task is None
        else {str(key): described(value) for key, value in task.items()},
        algorithm=type(model).__name__,
        policy=policy_name(model),
        hyperparameters=hyperparameters,
        num_streams=model.n_envs,
        num_steps=model._total_timesteps - model._num_timesteps_at_start,
        seed=model.seed,
    )


def hyperparameters_of(model: BaseAlgorithm) -> dict[str, Json]:
    """Return every argument of the algorithm's constructor as the model now holds it.

    Schedules become their number, or their values over the training; classes and functions their import path.
    Arguments that a model does not keep (A2C's `use_rms_prop`) show in what it made of them (`policy_kwargs`).
    """
    names = [name for name in inspect.signature(type(model).__init__).parameters if name not in _NOT_ATTRIBUTES]
    kept = {name: getattr(model, name) for name in names if not name.startswith("_") and hasattr(model, name)}
    return {name: _hyperparameter(name, value) for name, value in kept.items()}


def _hyperparameter(name: str, value: object) -> Json:
    is_schedule = isinstance(value, FloatSchedule) or (name == "learning_rate" and callable(value))
    return schedule_described(value) if is_schedule else described(value)


def policy_name(model: BaseAlgorithm) -> str:
    """Return the name by which the algorithm knows its policy, or the import path of one of the user's own."""
    names = [name for name, policy in model.policy_aliases.items() if policy is model.policy_class]
    return names[0] if names else import_path(model.policy_class)


def parameters_digest(model: BaseAlgorithm) -> str:
    """Return the SHA-256 over the policy's parameters, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.policy.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {list(values.shape)}\n".encode())
        digest.update(values.flatten().view(th.uint8).numpy().tobytes())
    return digest.hexdigest()
