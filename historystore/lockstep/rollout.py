"""What a rollout leaves for the update, of many learners.

L is learners, N the steps of a learner's rollout in the order of Stable-Baselines3's buffer: stream by stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One rollout of every learner."""

    features: Float32[Tensor, "learners steps features"]
    actions: Int64[Tensor, "learners steps"]
    log_probs: Float32[Tensor, "learners steps"]
    values: Float32[Tensor, "learners steps"]
    advantages: Float32[Tensor, "learners steps"]
    returns: Float32[Tensor, "learners steps"]

    def explained_variance(self) -> list[float]:
        """Return of each learner how much of the returns' variance its values explain; NaN where there is none."""
        values, returns = self.values.numpy(), self.returns.numpy()
        variance, rest = returns.var(axis=1), (returns - values).var(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            explained = np.where(variance == 0, np.nan, 1 - rest / variance)
        return explained.astype(float).tolist()  # type: ignore[no-any-return]


def advantages_of(
    rewards: Float32[Tensor, "time rows"],
    values: Float32[Tensor, "time rows"],
    dones: Bool[Tensor, "time rows"],
    last_values: Float32[Tensor, " rows"],
    *,
    gamma: float,
    gae_lambda: float,
) -> Float32[Tensor, "time rows"]:
    """Return generalised advantage estimates (Schulman et al., arXiv 1506.02438), in Stable-Baselines3's order of sums.

    `dones` tells the steps that ended an episode; the rewards already hold what a time limit cut off.
    """
    advantages = torch.empty_like(rewards)
    goes_on = (~dones).float()
    following, last = last_values, torch.zeros_like(last_values)
    for step in reversed(range(len(rewards))):
        delta = rewards[step] + gamma * following * goes_on[step] - values[step]
        last = torch.add(delta, goes_on[step] * (gamma * gae_lambda) * last, out=advantages[step])
        following = values[step]
    return advantages


def normalized(advantages: Float32[Tensor, "*batches rows"]) -> Float32[Tensor, "*batches rows"]:
    """Return the advantages of each batch with mean 0 and (unbiased) standard deviation 1."""
    centred = advantages - advantages.mean(-1, keepdim=True)
    deviation = (centred.square().sum(-1, keepdim=True) / (advantages.shape[-1] - 1)).sqrt_()
    return centred / deviation.add_(1e-8)
