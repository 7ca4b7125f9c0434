"""Observations and transitions as vectors: what the transformer reads.

B is batch, T tokens, K coordinates, C width.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from historystore.errors import InvalidValue

from .config import ModelConfig
from .tokens import PARTS, Tokens


def discrete(space: gym.Space[Any]) -> gym.spaces.Discrete:
    """Return the action space, or raise InvalidValue where it is not Discrete."""
    if isinstance(space, gym.spaces.Discrete):
        return space
    raise InvalidValue(f"action space: distillation expects Discrete, got {space}.")


def symlog(x: Float[Tensor, ...]) -> Float[Tensor, ...]:
    """Compress numbers of any size, zero and sign kept: `sign(x) log(1 + |x|)`."""
    return x.sign() * x.abs().log1p()


class CoordinateEmbedding(nn.Module):
    """Discrete coordinates: each has its own table, and enters as a number in [-1, 1] too.

    One symbol for a whole grid cell would leave (3, 4) and (3, 5) unrelated, and goals never trained on unreachable.
    """

    def __init__(
        self, counts: Int[np.ndarray, coordinates], starts: Int[np.ndarray, coordinates], width: int, coordinates: str
    ) -> None:
        super().__init__()
        self.counts: Tensor
        self.starts: Tensor
        self.offsets: Tensor
        self.register_buffer("counts", torch.as_tensor(counts), persistent=False)
        self.register_buffer("starts", torch.as_tensor(starts), persistent=False)
        self.register_buffer("offsets", torch.as_tensor(np.cumsum(counts) - counts), persistent=False)
        self.table = nn.Embedding(int(counts.sum()), width) if coordinates != "number" else None
        self.numbers = nn.Linear(len(counts), width, bias=False) if coordinates != "embedding" else None

    def forward(self, obs: Int[Tensor, "batch time *coordinates"]) -> Float[Tensor, "batch time width"]:
        """Embed observations of any shape whose numbers are the coordinates."""
        index = obs.reshape(*obs.shape[:2], len(self.counts)) - self.starts  # (B, T[, K]) -> (B, T, K)
        parts = []
        if self.table is not None:
            parts.append(self.table(index + self.offsets).sum(-2))  # (B, T, K, C) -> (B, T, C)
        if self.numbers is not None:
            parts.append(self.numbers(index * 2.0 / (self.counts - 1).clamp(min=1) - 1.0))
        x: Tensor = sum(parts[1:], parts[0])
        return x


class VectorEmbedding(nn.Module):
    """A Box, flattened: scaled to [-1, 1] where its bounds are finite, by symlog where they are not."""

    def __init__(self, low: Num[np.ndarray, ...], high: Num[np.ndarray, ...], width: int) -> None:
        super().__init__()
        low, high = low.astype(np.float64).ravel(), high.astype(np.float64).ravel()
        is_bounded = np.isfinite(low) & np.isfinite(high) & (high > low) & (high - low < 1e6)
        self.is_bounded: Tensor
        self.middle: Tensor
        self.scale: Tensor
        self.register_buffer("is_bounded", torch.as_tensor(is_bounded), persistent=False)
        low, high = np.where(is_bounded, low, -1.0), np.where(is_bounded, high, 1.0)
        middle, scale = (low + high) / 2, (high - low) / 2
        self.register_buffer("middle", torch.as_tensor(middle, dtype=torch.float32), persistent=False)
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32), persistent=False)
        self.linear = nn.Linear(len(low), width, bias=False)

    def forward(self, obs: Num[Tensor, "batch time ..."]) -> Float[Tensor, "batch time width"]:
        """Embed observations of any shape."""
        x = obs.reshape(*obs.shape[:2], len(self.scale)).float()  # (B, T, *shape) -> (B, T, K)
        y: Tensor = self.linear(torch.where(self.is_bounded, (x - self.middle) / self.scale, symlog(x)))
        return y


def observation_embedding(space: gym.Space[Any], config: ModelConfig) -> nn.Module:
    """Return the module that embeds this space's observations, or raise InvalidValue."""
    if isinstance(space, gym.spaces.Discrete):
        return CoordinateEmbedding(np.array([space.n]), np.array([space.start]), config.width, config.coordinates)
    if isinstance(space, gym.spaces.MultiDiscrete):
        counts, starts = space.nvec.ravel().astype(np.int64), space.start.ravel().astype(np.int64)
        return CoordinateEmbedding(counts, starts, config.width, config.coordinates)
    if isinstance(space, gym.spaces.Box):
        return VectorEmbedding(space.low, space.high, config.width)
    raise InvalidValue(f"observation space: distillation expects Discrete, MultiDiscrete or Box, got {space}.")


class TokenEmbedding(nn.Module):
    """A token's parts, each embedded, and summed; an absent part is a learned vector of its own."""

    def __init__(self, config: ModelConfig, observation_space: gym.Space[Any], num_actions: int) -> None:
        super().__init__()
        self.observation = observation_embedding(observation_space, config)
        self.episode_start = nn.Embedding(2, config.width)
        self.previous_observation = (
            observation_embedding(observation_space, config) if config.previous_observation else None
        )
        self.previous_action = nn.Embedding(num_actions, config.width)
        self.previous_reward = nn.Linear(1, config.width)
        self.absent = nn.Parameter(torch.zeros(PARTS, config.width))

    def forward(self, tokens: Tokens) -> Float[Tensor, "batch time width"]:
        """Embed tokens."""
        x: Tensor = self.observation(tokens.observation) + self.episode_start(tokens.episode_start.long())
        parts = [
            self.previous_action(tokens.previous_action),
            self.previous_reward(symlog(tokens.previous_reward)[..., None]),
        ]
        if self.previous_observation is not None:
            parts.append(self.previous_observation(tokens.previous_observation))
        for i, part in enumerate(parts):
            x = x + torch.where(tokens.has_previous[..., i, None], part, self.absent[i])
        return x
