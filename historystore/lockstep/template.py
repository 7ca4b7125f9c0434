"""A Stable-Baselines3 model as the template of learners in lockstep (imports stable_baselines3).

All that defines the learners (networks, initial weights, schedules, checked hyperparameters) is read off it, so that
nothing is defined twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

from historystore.errors import InvalidValue
from historystore.lockstep.a2c import A2cSettings
from historystore.lockstep.activations import activations
from historystore.lockstep.actor_critic import ActorCritic
from historystore.lockstep.dqn import DqnSettings
from historystore.lockstep.layout import Layout
from historystore.lockstep.optimisers import Adam, Optimiser, RmsProp, Rows
from historystore.lockstep.population import Population
from historystore.lockstep.ppo import PpoSettings

OnPolicyModel: TypeAlias = "PPO | A2C"
_PLAIN_ADAM = {"weight_decay": 0, "amsgrad": False, "maximize": False}
_PLAIN_RMSPROP = {"weight_decay": 0, "momentum": 0, "centered": False, "maximize": False}


def check_model(model: BaseAlgorithm) -> None:
    """Refuse a model that cannot advance in lockstep.

    Raises:
        InvalidValue: it has something that only Stable-Baselines3 itself can do.
    """
    for what in _refusals(model):
        raise InvalidValue(f"--engine lockstep: {what}. Take --engine sb3, which can.")


def _refusals(model: Any) -> Iterator[str]:
    """Say what of a model cannot be done, the first thing first."""
    if type(model) not in (PPO, A2C, DQN):
        yield f"knows PPO, A2C and DQN, got {type(model).__name__}"
        return
    policy, is_dqn = model.policy, type(model) is DQN
    if type(policy) is not (DQNPolicy if is_dqn else ActorCriticPolicy):
        yield f"knows flat observations through MlpPolicy alone, got {type(policy).__name__}"
    yield from _space_refusals(model)
    if policy.features_extractor_class is not FlattenExtractor or policy.features_extractor_kwargs:
        yield f"knows no feature extractors, got {policy.features_extractor_class.__name__}"
    if policy.activation_fn not in [getattr(nn, name) for name in activations()]:
        yield f"knows the activations {', '.join(activations())}, got {policy.activation_fn.__name__}"
    if _optimiser(policy.optimizer) is None:
        name = type(policy.optimizer).__name__
        yield f"knows plain Adam and RMSprop, without weight decay or momentum, got {name} with other settings"
    yield from _dqn_refusals(model) if is_dqn else _on_policy_refusals(model)


def _space_refusals(model: BaseAlgorithm) -> Iterator[str]:
    observation, action = model.observation_space, model.action_space
    is_flat = isinstance(observation, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary))
    if not is_flat or is_image_space(observation):
        yield f"knows Box (no images), Discrete, MultiDiscrete and MultiBinary observations, got {observation}"
    elif isinstance(observation, spaces.MultiDiscrete) and (observation.nvec.ndim != 1 or observation.start.any()):
        yield f"knows MultiDiscrete observations in one row, from 0, got {observation}"
    elif isinstance(observation, spaces.Discrete) and observation.start != 0:
        yield f"knows Discrete observations from 0, got {observation}"
    if not isinstance(action, spaces.Discrete) or action.start != 0:
        yield f"knows Discrete actions from 0, got {action}"


def _on_policy_refusals(model: Any) -> Iterator[str]:
    if model.use_sde:
        yield "knows no state-dependent exploration, got use_sde"
    if model.rollout_buffer_class is not RolloutBuffer or model.rollout_buffer_kwargs:
        yield "knows the plain rollout buffer alone, got another one"
    if not model.policy.share_features_extractor:
        yield "knows no feature extractors, got share_features_extractor=False"


def _dqn_refusals(model: Any) -> Iterator[str]:
    if type(model.replay_buffer) is not ReplayBuffer or model.replay_buffer_kwargs or model.optimize_memory_usage:
        yield "knows the plain replay buffer and n_steps=1 alone, got another one"
    if model.train_freq.unit is TrainFrequencyUnit.EPISODE:
        yield "counts train_freq in steps, got episodes"


def _optimiser(optimizer: torch.optim.Optimizer) -> Callable[[Rows], Optimiser] | None:
    """Return how to make the same optimiser over rows; None if it is not known."""
    (group,) = optimizer.param_groups

    def is_plain(expected: dict[str, Any]) -> bool:
        return all(group[name] == value for name, value in expected.items())

    if type(optimizer) is torch.optim.Adam and is_plain(_PLAIN_ADAM):
        return lambda rows: Adam(rows, betas=group["betas"], eps=group["eps"])
    if type(optimizer) is torch.optim.RMSprop and is_plain(_PLAIN_RMSPROP):
        return lambda rows: RmsProp(rows, alpha=group["alpha"], eps=group["eps"])
    return None


def network_of(model: Any) -> nn.Module:
    """Return the part of a model's policy whose parameters are learned: not DQN's target network."""
    network: nn.Module = model.policy.q_net if isinstance(model, DQN) else model.policy
    return network


def population_of(model: Any, seeds: Sequence[int | None]) -> Population:
    """Return a learner for each seed, with the initial parameters that Stable-Baselines3 gives to that seed."""
    layout = Layout.of((name, tuple(entry.shape)) for name, entry in network_of(model).named_parameters())
    rows = layout.rows(len(seeds))
    make = _optimiser(model.policy.optimizer)
    assert make is not None
    with torch.random.fork_rng(devices=[]):
        for row, seed in zip(rows, seeds, strict=True):
            torch.seed() if seed is None else torch.manual_seed(seed)
            layout.write(row, _fresh_parameters(model))
    return Population(layout=layout, rows=rows, optimiser=make(rows), num_updates=np.zeros(len(seeds), np.int64))


def _fresh_parameters(model: Any) -> dict[str, torch.Tensor]:
    kwargs = {} if isinstance(model, DQN) else {"use_sde": False}
    policy = model.policy_class(
        model.observation_space, model.action_space, model.lr_schedule, **kwargs, **model.policy_kwargs
    )
    return dict((policy.q_net if isinstance(model, DQN) else policy).named_parameters())


def actor_critic_of(model: Any, layout: Layout) -> ActorCritic:
    """Return where the networks of an on-policy model lie."""
    extractor = model.policy.mlp_extractor
    num_hidden = {"pi": len(extractor.policy_net) // 2, "vf": len(extractor.value_net) // 2}
    return ActorCritic.of(layout, num_hidden=num_hidden, activation_name=model.policy.activation_fn.__name__)


def ppo_settings(model: PPO) -> PpoSettings:
    """Return the hyperparameters of a PPO model's update."""
    clip_range: Any = model.clip_range
    clip_range_vf: Any = model.clip_range_vf
    return PpoSettings(
        batch_size=model.batch_size,
        n_epochs=model.n_epochs,
        learning_rate=model.lr_schedule,
        clip_range=clip_range,
        clip_range_vf=clip_range_vf,
        normalize_advantage=model.normalize_advantage,
        ent_coef=float(model.ent_coef),
        vf_coef=float(model.vf_coef),
        max_grad_norm=float(model.max_grad_norm),
        target_kl=model.target_kl,
    )


def a2c_settings(model: A2C) -> A2cSettings:
    """Return the hyperparameters of an A2C model's update."""
    return A2cSettings(
        learning_rate=model.lr_schedule,
        normalize_advantage=model.normalize_advantage,
        ent_coef=float(model.ent_coef),
        vf_coef=float(model.vf_coef),
        max_grad_norm=float(model.max_grad_norm),
    )


def dqn_settings(model: DQN) -> DqnSettings:
    """Return the hyperparameters of a DQN model."""
    train_freq: Any = model.train_freq
    return DqnSettings(
        learning_rate=model.lr_schedule,
        exploration=model.exploration_schedule,
        buffer_size=model.buffer_size,
        learning_starts=model.learning_starts,
        batch_size=model.batch_size,
        tau=float(model.tau),
        gamma=float(model.gamma),
        train_freq=train_freq.frequency,
        gradient_steps=model.gradient_steps,
        target_update_interval=model.target_update_interval,
        max_grad_norm=float(model.max_grad_norm),
    )
