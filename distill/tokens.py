"""What the transformer reads of each transition."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

PARTS = 3
"""The parts of a token that can be absent, in order: the previous action, reward and observation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """A batch of transitions, each what the agent knew when it chose the action at its position.

    Observations are as `DistilledAgent.encode` returns them, actions as choices (`ActionCode`). Where `has_previous` is
    False, what stands in that part is never read.
    """

    observation: Num[Tensor, "batch time *obs"]
    episode_start: Bool[Tensor, "batch time"]
    previous_action: Int[Tensor, "batch time *choices"]
    previous_reward: Float[Tensor, "batch time"]
    previous_observation: Num[Tensor, "batch time *obs"]
    has_previous: Bool[Tensor, "batch time parts"]

    def last(self, count: int) -> Tokens:
        """Return the last positions only."""
        return Tokens(**{field.name: getattr(self, field.name)[:, -count:] for field in fields(self)})

    def masked(self, rate: float) -> Tokens:
        """Hide each part of each previous transition at this rate, drawn from torch's global generator.

        The present observation always stays: it is what the action is chosen from.
        """
        is_kept = torch.rand(self.has_previous.shape, device=self.has_previous.device) >= rate
        return replace(self, has_previous=self.has_previous & is_kept)


def window_tokens(
    *,
    observation: Num[Tensor, "batch time *obs"],
    action: Int[Tensor, "batch time *choices"],
    reward: Float[Tensor, "batch time"],
    episode_start: Bool[Tensor, "batch time"],
) -> Tokens:
    """Make the tokens of windows: each position sees the transition before it in the window, the first sees none.

    At an episode's start the previous transition is the last one of the episode before. Its reward is information
    (did that episode reach the goal?); the flag says that the present observation does not follow from it.
    """
    has_previous = torch.ones((*reward.shape, PARTS), dtype=torch.bool, device=reward.device)
    has_previous[:, 0] = False
    return Tokens(
        observation=observation,
        episode_start=episode_start,
        previous_action=action.roll(1, dims=1),
        previous_reward=reward.float().roll(1, dims=1),
        previous_observation=observation.roll(1, dims=1),
        has_previous=has_previous,
    )
