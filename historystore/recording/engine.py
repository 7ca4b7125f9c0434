"""Stable-Baselines3 as the engine that learns (imports stable_baselines3)."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from historystore import tasks
from historystore.documents import LearnerSpec, Status
from historystore.errors import InvalidValue, WriteFailed
from historystore.fields import leaves
from historystore.import_paths import import_module
from historystore.recording.algorithms import algorithm_of_spec
from historystore.recording.engines import Interrupted, Session
from historystore.recording.messages import Finished
from historystore.recording.source_vec_env import source_vec_env
from historystore.sb3 import HistoryRecorder
from historystore.sb3.features import features_for
from historystore.sb3.policy_fields import info_values

_CLASSES_IN = {"activation_fn": torch.nn, "optimizer_class": torch.optim}
"""Entries of `policy_kwargs` that are classes: a specification holds their names."""


class Sb3Engine:
    """Stable-Baselines3: one learner at a time, with anything that it can do."""

    def check(self, template: LearnerSpec, *, fields: Sequence[str] | None) -> None:
        """Build the learner once; its environments take a step where a field is asked of their info."""
        env = build_model(template).get_env()
        names = [name for name in fields or () if name.startswith("info/")]
        if names:
            assert env is not None
            env.reset()
            *_, infos = env.step(np.stack([env.action_space.sample()] * env.num_envs))
            for name in names:
                info_values(name, infos, step=1)

    def group_size(self, template: LearnerSpec) -> int:
        """Return one: learners that ride together would not be faster."""
        return 1

    def learn(self, specs: Sequence[LearnerSpec], session: Session) -> Iterator[Finished]:
        """Learn one learner after another."""
        return (_learned(spec, session) for spec in specs)


def _learned(spec: LearnerSpec, session: Session) -> Finished:
    """Record one learner and say how it ended; only the disk's refusal is raised."""
    recorder = HistoryRecorder(session.writer, spec=spec, fields=session.fields, checkpoints=session.checkpoints)

    def finished(status: Status, num_steps: int, error: str | None = None) -> Finished:
        assert spec.seed is not None
        return Finished(
            seed=spec.seed, status=status, num_steps=num_steps, num_resumed=recorder.num_resumed, error=error
        )

    try:
        model = build_model(spec)
        model.learn(spec.num_steps, callback=[recorder, Watch(session.watch)])
    except WriteFailed:
        raise
    except Interrupted:
        recorder.close(status="partial", error="interrupted")
        return finished("partial", recorder.num_timesteps)
    except Exception as error:  # noqa: BLE001 - recorded with the learner; the others go on
        text = f"{type(error).__name__}: {error}"
        recorder.close(status="failed", error=text)
        if recorder.learner is None:  # it raised before its first step
            session.writer.begin(spec).finish(status="failed", error=text)
        return finished("failed", recorder.num_timesteps, text)
    return finished("complete", model.num_timesteps)


def build_model(spec: LearnerSpec) -> BaseAlgorithm:
    """Build the learner of a specification, with its environments, on the CPU.

    Its logger writes nowhere: the one that `learn()` would make leaves a temporary directory behind.
    """
    env = _environments(spec)
    algorithm = algorithm_class(spec.algorithm)
    arguments = {name: _argument(name, value, env.action_space) for name, value in spec.hyperparameters.items()}
    if features := features_for(spec.policy, env.observation_space):
        arguments["policy_kwargs"] = {**features, **(arguments.get("policy_kwargs") or {})}
    model: BaseAlgorithm = algorithm(spec.policy, env, seed=spec.seed, device="cpu", **arguments)
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def _environments(spec: LearnerSpec) -> VecEnv:
    family = tasks.family(spec.family, spec.env_args)
    if family.is_batched:
        env = source_vec_env(family.make_batched([spec.task] * spec.num_streams))
    else:
        env = DummyVecEnv([functools.partial(family.make, spec.task)] * spec.num_streams)
    _check_starts(spec, observations=env.observation_space, actions=env.action_space)
    return env


def _check_starts(spec: LearnerSpec, **spaces: gym.Space[Any]) -> None:
    """Refuse spaces that do not count from 0: Stable-Baselines3 would act outside of them without a word."""
    for name, space in spaces.items():
        if any(np.any(getattr(leaf, "start", 0)) for _, leaf in leaves(name, space)):
            raise InvalidValue(
                f"{spec.family}: Stable-Baselines3 counts {name} from 0, expected such a space, got {space}. "
                "Wrap the environment to count from 0, or take a learner that can, such as --algo q-learning."
            )


def algorithm_class(name: str) -> type[BaseAlgorithm]:
    """Import the algorithm that a specification names.

    Raises:
        InvalidValue: it is no algorithm on Stable-Baselines3's base class.
    """
    known = algorithm_of_spec(name)
    found = getattr(import_module(known.module, where="algo"), known.class_name, None)
    if not isinstance(found, type) or not issubclass(found, BaseAlgorithm):
        raise InvalidValue(
            f"algo: {name} is no algorithm of Stable-Baselines3, expected a subclass of its BaseAlgorithm. "
            "Check the path."
        )
    return found


class Watch(BaseCallback):
    """Call a function with the number of steps so far after every step; it may raise to end the learning."""

    def __init__(self, on_steps: Callable[[int], None]) -> None:
        super().__init__()
        self._on_steps = on_steps

    def _on_step(self) -> bool:
        self._on_steps(self.num_timesteps)
        return True


def _argument(name: str, value: Any, actions: gym.Space[Any]) -> Any:
    """Return a hyperparameter as the constructor takes it: lists as tuples, names of classes as classes.

    A number as `action_noise` is the standard deviation of Gaussian noise on actions scaled to [-1, 1].
    """
    if name == "action_noise" and isinstance(value, float):
        return NormalActionNoise(np.zeros(actions.shape or ()), np.full(actions.shape or (), value))
    if name == "policy_kwargs" and isinstance(value, dict):
        kwargs = copy.deepcopy(value)
        return {key: _class(key, entry) if key in _CLASSES_IN else entry for key, entry in kwargs.items()}
    return tuple(value) if isinstance(value, list) else value


def _class(key: str, name: Any) -> type:
    found = getattr(_CLASSES_IN[key], name, None) if isinstance(name, str) else None
    if not isinstance(found, type):
        raise InvalidValue(f"policy_kwargs {key}: no class {name!r} in {_CLASSES_IN[key].__name__}. Check the name.")
    return found
