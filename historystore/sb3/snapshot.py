"""A Stable-Baselines3 learner between two rollouts: everything that it needs to go on as if nothing had happened.

Taken and put back at the same place, where a rollout starts: the last update is over, and the buffer of an on-policy
algorithm is empty. Parameters and optimisers are not part of it (`historystore.sb3.checkpoint` has them), nor are other
callbacks, or environments that cannot tell their state.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.vec_env import VecEnv

from historystore.documents import sha256_hex
from historystore.errors import InvalidValue
from historystore.recording.vec_env import BatchedVecEnv
from historystore.sb3.describe import Json
from historystore.sb3.generators import generators, set_generators
from historystore.sb3.layers import split_layers
from historystore.sb3.packing import Packer, Unpacker
from historystore.sb3.replay_buffer import contents, refill

_NOT_STATE = {"_custom_logger", "_stats_window_size", "n_envs", "start_time", "tensorboard_log", "verbose"}
_LOGGED = ("name_to_value", "name_to_count", "name_to_excluded")
_OF_A_WRAPPER = ("_options", "_seeds", "metadata", "reset_infos", "t_start")
_NOISE = ("exploration_mat", "exploration_matrices")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A learner's state as JSON, with its arrays apart."""

    state: dict[str, Json]
    arrays: dict[str, np.ndarray]


def snapshot(model: BaseAlgorithm) -> Snapshot:
    """Return where a learner is. Draws no random number, and changes nothing.

    Raises:
        InvalidValue: its replay buffer holds what cannot be written without pickle.
    """
    packer, (wrappers, env) = Packer(), split_layers(env_of(model))
    noise = _exploration(model)
    logged = {name: dict(getattr(model.logger, name)) for name in _LOGGED}
    state: dict[str, Json] = {
        "model": packer.pack_attributes(model, path="model", without=_without(model)),
        "action_noise": packer.pack(getattr(model, "action_noise", None), path="action_noise"),
        "exploration": packer.pack(
            {name: getattr(noise, name) for name in _NOISE} if noise is not None else None, path="exploration"
        ),
        "logger": packer.pack({name: _numbers(values) for name, values in logged.items()}, path="logger"),
        "replay_buffer": packer.pack(contents(model), path="replay_buffer"),
        "generators": packer.pack(generators(model), path="generators"),
        "wrappers": [
            packer.pack_attributes(wrapper, path=f"wrappers/{i}", without=_OF_A_WRAPPER)
            for i, wrapper in enumerate(wrappers)
        ],
        "environment": packer.pack(environment_state(env), path="environment"),
    }
    return Snapshot(state=state, arrays=packer.arrays)


def restore(model: BaseAlgorithm, taken: Snapshot, *, learner: str, step: int) -> bool:
    """Put a fresh learner of the same specification to where another one was; its parameters are set already.

    Environments whose state is not known begin a new episode, with seeds drawn from the learner's id and the step.

    Returns:
        whether the environments are where they were.
    """
    unpacker, (wrappers, env) = Unpacker(taken.arrays), split_layers(env_of(model))
    state = taken.state
    unpacker.unpack_attributes(state["model"], into=model)
    if getattr(model, "action_noise", None) is not None:
        unpacker.unpack(state["action_noise"], into=model.action_noise)
    noise, exploration = _exploration(model), unpacker.unpack(state["exploration"], into=None)
    if noise is not None and exploration is not None:
        vars(noise).update(exploration)
    for name, values in unpacker.unpack(state["logger"], into=None).items():
        getattr(model.logger, name).clear()
        getattr(model.logger, name).update(values)
    refill(model, unpacker.unpack(state["replay_buffer"], into=None))
    for wrapper, attributes in zip(wrappers, state["wrappers"], strict=True):
        unpacker.unpack_attributes(attributes, into=wrapper)
    environment = unpacker.unpack(state["environment"], into=None)
    if environment is not None:
        assert isinstance(env, BatchedVecEnv), "a state comes from environments that can go back to it"
        env.envs.restore(environment)
    else:
        _begin_episodes(model, seed=int(sha256_hex(f"{learner}/{step}".encode())[:7], 16))
    set_generators(model, unpacker.unpack(state["generators"], into=None))
    return environment is not None


def environment_state(env: VecEnv) -> dict[str, np.ndarray] | None:
    """Return the state of environments that can go back to it; None of others."""
    if not isinstance(env, BatchedVecEnv):
        return None
    try:
        return env.envs.state()
    except InvalidValue:
        return None


def env_of(model: BaseAlgorithm) -> VecEnv:
    """Return the environments of a model that learns."""
    env = model.get_env()
    assert env is not None, "learn() refuses a model without an environment"
    return env


def _without(model: BaseAlgorithm) -> set[str]:
    """Return the attributes that are settings, or parameters."""
    settings = set(inspect.signature(type(model).__init__).parameters)
    return settings | _NOT_STATE | set(model._get_torch_save_params()[1])


def _exploration(model: BaseAlgorithm) -> StateDependentNoiseDistribution | None:
    actor = getattr(model, "actor", None)
    found = getattr(model.policy if actor is None else actor, "action_dist", None)
    return found if isinstance(found, StateDependentNoiseDistribution) else None


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a logger holds apart from figures, videos and the like."""
    return {name: value for name, value in values.items() if isinstance(value, (bool, int, float, np.number, tuple))}


def _begin_episodes(model: BaseAlgorithm, *, seed: int) -> None:
    """Reset a learner's environments, as `learn()` does at its beginning."""
    env: Any = env_of(model)
    env.seed(seed)
    model._last_obs = env.reset()
    model._last_episode_starts = np.ones((env.num_envs,), dtype=bool)
    if model._vec_normalize_env is not None:
        model._last_original_obs = model._vec_normalize_env.get_original_obs()
