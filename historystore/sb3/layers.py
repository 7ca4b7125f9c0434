"""The wrappers between a learner and its environments, and what the environments showed beneath them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

from historystore.errors import InvalidValue

Observation: TypeAlias = np.ndarray | dict[str, np.ndarray]
"""What a VecEnv shows of all its environments: one array, or one for each key; streams are the first dimension."""


def split_layers(env: VecEnv) -> tuple[list[VecEnvWrapper], VecEnv]:
    """Return the wrappers from the outermost inwards, and the environments that they wrap."""
    wrappers = []
    while isinstance(env, VecEnvWrapper):
        wrappers.append(env)
        env = env.venv
    return wrappers, env


def unwrapped_observation(model: BaseAlgorithm) -> Observation:
    """Return what the environments showed last, worked out from what the learner saw of it.

    `learn()` resets the environments before any callback hears of it, so the first observation cannot be listened to.

    Raises:
        InvalidValue: a wrapper changes observations in a way that is not known here.
    """
    wrappers, env = split_layers(_env_of(model))
    obs: Any = model._last_obs
    for wrapper in wrappers:
        undo = _UNDO.get(type(wrapper))
        if undo is None:
            raise InvalidValue(
                f"{type(wrapper).__name__}: cannot tell the first observation of {type(env).__name__} behind it, "
                f"expected one of {', '.join(sorted(kind.__name__ for kind in _UNDO))}. "
                "Use DummyVecEnv for the environments, or make the wrapper a gymnasium.Wrapper."
            )
        obs = undo(wrapper, obs)
    return obs  # type: ignore[no-any-return]


def _env_of(model: BaseAlgorithm) -> VecEnv:
    env = model.get_env()
    assert env is not None, "learn() refuses a model without an environment"
    return env


def _original(wrapper: VecNormalize, obs: Observation) -> Observation:
    return wrapper.get_original_obs()


def _untransposed(wrapper: VecTransposeImage, obs: Observation) -> Observation:
    if wrapper.skip:
        return obs
    if isinstance(obs, dict):
        keys = wrapper.image_space_keys
        return {key: _channels_last(image) if key in keys else image for key, image in obs.items()}
    return _channels_last(obs)


def _channels_last(images: np.ndarray) -> np.ndarray:
    return np.transpose(images, (0, 2, 3, 1))  # (streams, c, h, w) -> (streams, h, w, c)


def _last_frame(wrapper: VecFrameStack, obs: Observation) -> Observation:
    stacks = wrapper.stacked_obs
    if isinstance(obs, dict):
        return {key: _last_of_stack(stacks.sub_stacked_observations[key], stack) for key, stack in obs.items()}
    return _last_of_stack(stacks, obs)


def _last_of_stack(stacks: Any, stack: np.ndarray) -> np.ndarray:
    depth = stacks.observation_space.shape[stacks.repeat_axis]
    return stack[:, -depth:] if stacks.channels_first else stack[..., -depth:]


def _unchanged(wrapper: VecEnvWrapper, obs: Observation) -> Observation:
    return obs


# By exact class: a subclass may do anything to an observation.
_UNDO: dict[type[VecEnvWrapper], Callable[[Any, Observation], Observation]] = {
    VecCheckNan: _unchanged,
    VecFrameStack: _last_frame,
    VecMonitor: _unchanged,
    VecNormalize: _original,
    VecTransposeImage: _untransposed,
    VecVideoRecorder: _unchanged,
}
