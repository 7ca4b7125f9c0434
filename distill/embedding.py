"""Transitions as tokens: what the transformer reads.

B is batch, T transitions, P tokens of each, C width.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from .actions import ActionCode
from .config import ModelConfig
from .encoders import CoordinateEmbedding, ObservationEncoder, symlog
from .tokens import PARTS, Tokens


def action_embedding(code: ActionCode, width: int) -> nn.Module:
    """Return the module that embeds an action's choices; those of a Box enter as numbers too."""
    if isinstance(code.space, gym.spaces.Discrete):
        return nn.Embedding(code.counts[0], width)
    counts = np.array(code.counts, np.int64)
    return CoordinateEmbedding(counts, np.zeros_like(counts), width, "both" if code.is_ordered else "embedding")


class TokenEmbedding(nn.Module):
    """A transition as one token, the sum of its embedded parts, or as three: previous action, reward, observation.

    An absent part is a learned vector of its own. The action is foretold from the last token of its transition.
    """

    def __init__(self, config: ModelConfig, observation_space: gym.Space[Any], code: ActionCode) -> None:
        super().__init__()
        self.is_merged = config.layout == "one"
        self.encoder = ObservationEncoder(observation_space, config)
        self.observation = self.encoder.embedding()
        self.episode_start = nn.Embedding(2, config.width)
        shows_previous = config.previous_observation and self.is_merged
        self.previous_observation = self.encoder.embedding() if shows_previous else None
        self.previous_action = action_embedding(code, config.width)
        self.previous_reward = nn.Linear(1, config.width)
        self.absent = nn.Parameter(torch.zeros(PARTS, config.width))

    def forward(self, tokens: Tokens) -> Float[Tensor, "batch tokens width"]:
        """Embed the tokens of encoded observations, in order of time."""
        x: Tensor = self.observation(tokens.observation) + self.episode_start(tokens.episode_start.long())
        parts = [
            self.previous_action(tokens.previous_action),
            self.previous_reward(symlog(tokens.previous_reward)[..., None]),
        ]
        if self.previous_observation is not None:
            parts.append(self.previous_observation(tokens.previous_observation))
        shown = [torch.where(tokens.has_previous[..., i, None], part, self.absent[i]) for i, part in enumerate(parts)]
        if not self.is_merged:
            return torch.stack([*shown, x], dim=2).flatten(1, 2)  # (B, T, P, C) -> (B, T * P, C)
        for part in shown:
            x = x + part
        return x
