"""DQN's gradient step (Mnih et al., Nature 518, 2015) of many learners at once, equal to Stable-Baselines3's.

`tests/test_lockstep_dqn.py` holds it against `DQN.train()`, from the same weights and replayed transitions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from historystore.lockstep.actor_critic import chunks
from historystore.lockstep.layout import Layout
from historystore.lockstep.mlp import Mlp
from historystore.lockstep.optimisers import Rows, clip_gradients
from historystore.lockstep.population import Population
from historystore.lockstep.schedules import Schedule
from historystore.lockstep.scratch import Scratch

_CHUNK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DqnSettings:
    """Hyperparameters of acting and learning, by Stable-Baselines3's names."""

    learning_rate: Schedule
    exploration: Schedule
    buffer_size: int
    learning_starts: int
    batch_size: int
    tau: float
    gamma: float
    train_freq: int
    gradient_steps: int
    target_update_interval: int
    max_grad_norm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Transitions:
    """Replayed transitions of every learner."""

    features: Float32[Tensor, "learners rows features"]
    actions: Int64[Tensor, "learners rows"]
    rewards: Float32[Tensor, "learners rows"]
    terminated: Float32[Tensor, "learners rows"]
    next_features: Float32[Tensor, "learners rows features"]


def q_network_of(layout: Layout, *, num_hidden: int, activation_name: str) -> Mlp:
    """Return the Q-network in the layout of `QNetwork`; activations stand between its layers."""
    hidden = [f"q_net.{2 * index}" for index in range(num_hidden)]
    return Mlp.of(layout, hidden=hidden, head=f"q_net.{2 * num_hidden}", activation_name=activation_name)


def train(
    population: Population,
    targets: Rows,
    network: Mlp,
    batch: Transitions,
    settings: DqnSettings,
    *,
    progress_remaining: float,
    scratch: Scratch,
) -> Float32[Tensor, " learners"]:
    """Take one gradient step with every learner, and return the losses.

    Args:
        population: the learners; parameters and optimiser state change in place.
        targets: the parameters of their target networks.
        network: where the network lies in a row.
        batch: what they learn from.
        settings: the hyperparameters.
        progress_remaining: from 1 at the beginning of the training to 0.
        scratch: memory to compute in.
    """
    learning_rate = settings.learning_rate(progress_remaining)
    losses = torch.empty(population.num_learners)
    for chunk in chunks(population.num_learners, size=_CHUNK):
        part = slice(chunk.start, chunk.stop)
        following = network.on(targets[part], scratch).forward(batch.next_features[part]).amax(1)
        expected = batch.rewards[part] + (1 - batch.terminated[part]) * settings.gamma * following
        grads = scratch.aligned("grads", len(chunk), population.layout.width)
        online = network.on(population.rows[part], scratch, grads=grads)
        values, actions = online.forward(batch.features[part]), batch.actions[part].unsqueeze(1)
        error = values.gather(1, actions).squeeze(1) - expected
        size = error.abs()
        losses[part] = torch.where(size < 1, 0.5 * error.square(), size - 0.5).mean(1)
        slope = error.clamp(-1, 1) / error.shape[1]
        online.backward(scratch.aligned("slope", *values.shape).zero_().scatter_(1, actions, slope.unsqueeze(1)))
        clip_gradients(grads, max_norm=settings.max_grad_norm)
        population.optimiser.step(grads, learning_rate=learning_rate, learners=chunk, first=chunk.start)
    return losses


def follow(targets: Rows, rows: Rows, *, tau: float) -> None:
    """Move the target networks a share `tau` of the way to the learners'."""
    targets.mul_(1 - tau).add_(rows, alpha=tau)
