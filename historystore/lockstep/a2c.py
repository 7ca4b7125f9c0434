"""A2C's update (Mnih et al., arXiv 1602.01783) of many learners at once, equal to Stable-Baselines3's.

`tests/test_lockstep_a2c.py` holds it against `A2C.train()`, from the same weights and rollout.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from historystore.lockstep import categorical
from historystore.lockstep.actor_critic import ActorCritic, chunks
from historystore.lockstep.optimisers import clip_gradients
from historystore.lockstep.population import Population
from historystore.lockstep.rollout import Rollout, normalized
from historystore.lockstep.schedules import Schedule
from historystore.lockstep.scratch import Scratch

_CHUNK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class A2cSettings:
    """Hyperparameters of the update, by Stable-Baselines3's names."""

    learning_rate: Schedule
    normalize_advantage: bool
    ent_coef: float
    vf_coef: float
    max_grad_norm: float


def train(
    population: Population,
    networks: ActorCritic,
    rollout: Rollout,
    settings: A2cSettings,
    *,
    progress_remaining: float,
    scratch: Scratch,
) -> list[dict[str, float]]:
    """Update every learner by one step on its whole rollout, and return what Stable-Baselines3 would log of each.

    Args:
        population: the learners; parameters, optimiser state and counts change in place.
        networks: where their networks lie.
        rollout: what they have lived.
        settings: the hyperparameters.
        progress_remaining: from 1 at the beginning of the training to 0.
        scratch: memory to compute in.
    """
    learning_rate = settings.learning_rate(progress_remaining)
    explained = rollout.explained_variance()
    population.num_updates[:] += 1
    logs: list[dict[str, float]] = []
    for chunk in chunks(population.num_learners, size=_CHUNK):
        losses = _step(
            population, networks, rollout, settings, learning_rate=learning_rate, chunk=chunk, scratch=scratch
        )
        for index, learner in enumerate(chunk):
            logs.append(
                {
                    "train/n_updates": float(population.num_updates[learner]),
                    "train/explained_variance": explained[learner],
                    "train/learning_rate": learning_rate,
                }
                | {f"train/{name}": values[index] for name, values in losses.items()}
            )
    return logs


def _step(
    population: Population,
    networks: ActorCritic,
    rollout: Rollout,
    settings: A2cSettings,
    *,
    learning_rate: float,
    chunk: range,
    scratch: Scratch,
) -> dict[str, list[float]]:
    """Step one chunk of learners and return its losses, one number a learner."""
    part = slice(chunk.start, chunk.stop)
    grads = scratch.aligned("grads", len(chunk), population.layout.width)
    stacked = networks.on(population.rows[part], scratch, grads=grads)
    features, returns, advantages = rollout.features[part], rollout.returns[part], rollout.advantages[part]
    if settings.normalize_advantage:
        advantages = normalized(advantages)
    error = stacked.value.forward(features).squeeze(1) - returns
    num_rows = error.shape[1]
    stacked.value.backward((error * (settings.vf_coef * 2 / num_rows)).unsqueeze(1))
    policy = categorical.likelihood(stacked.policy.forward(features), rollout.actions[part], scratch)
    grad_logits = categorical.gradient(
        policy, log_prob=advantages / -num_rows, entropy=-settings.ent_coef / num_rows, scratch=scratch
    )
    stacked.policy.backward(grad_logits)
    clip_gradients(grads, max_norm=settings.max_grad_norm)
    population.optimiser.step(grads, learning_rate=learning_rate, learners=chunk, first=chunk.start)
    gained = torch.mul(advantages, policy.log_prob, out=scratch.aligned("gained", *error.shape))
    return {
        "entropy_loss": policy.entropy.mean(1).neg_().tolist(),
        "policy_loss": gained.mean(1).neg_().tolist(),
        "value_loss": error.square().mean(1).tolist(),
    }
