"""Discrete actions: how they are drawn, how likely they are, and the gradients of that.

L is learners, A actions, M rows of each learner's batch; logits are (L, A, M), one column a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from historystore.lockstep.scratch import Scratch


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """What a policy says of the actions of a batch."""

    log_prob: Float32[Tensor, "learners rows"]
    entropy: Float32[Tensor, "learners rows"]
    actions: Int64[Tensor, "learners 1 rows"]
    log_probs: Float32[Tensor, "learners actions rows"]
    probs: Float32[Tensor, "learners actions rows"]


def likelihood(
    logits: Float32[Tensor, "learners actions rows"], actions: Int64[Tensor, "learners rows"], scratch: Scratch
) -> Likelihood:
    """Return the log-probability of each action and the entropy of each distribution."""
    shape, index = tuple(logits.shape), actions.unsqueeze(1)
    log_probs = scratch.compact("log_probs", *shape)
    torch.log_softmax(logits, 1, out=log_probs)
    probs = scratch.compact("probs", *shape)
    torch.exp(scratch.flat("log_probs", *shape), out=scratch.flat("probs", *shape))
    weighted = torch.mul(probs, log_probs, out=scratch.compact("weighted", *shape))
    return Likelihood(
        log_prob=log_probs.gather(1, index).squeeze(1),
        entropy=weighted.sum(1).neg_(),
        actions=index,
        log_probs=log_probs,
        probs=probs,
    )


def gradient(
    of: Likelihood, *, log_prob: Float32[Tensor, "learners rows"], entropy: float, scratch: Scratch
) -> Float32[Tensor, "learners actions rows"]:
    """Return the gradient for the logits, given that for the log-probabilities and, one for all, for the entropies.

    With p the probabilities, a the action, H the entropy and g, e the given gradients it is
    `g (1[j = a] - p_j) - e p_j (log p_j + H)`.
    """
    factor = scratch.aligned("factor", *of.probs.shape)
    if entropy:
        torch.add(of.log_probs, of.entropy.unsqueeze(1), out=factor).mul_(-entropy).sub_(log_prob.unsqueeze(1))
        factor.mul_(of.probs)
    else:
        torch.mul(of.probs, log_prob.neg().unsqueeze(1), out=factor)
    return factor.scatter_add_(1, of.actions, log_prob.unsqueeze(1))


def drawn(
    logits: Float32[Tensor, "learners actions rows"], noise: Float32[Tensor, "learners actions rows"]
) -> Int64[Tensor, "learners rows"]:
    """Draw one action a row: the largest of logit plus standard Gumbel noise is distributed as the softmax."""
    return (logits + noise).argmax(1)
