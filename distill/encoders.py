"""Observations as vectors, by the kind of their space.

What is dear (an image, a Dict of several parts) is encoded once for each observation, what is cheap enters as it is;
each place of a token that shows an observation has an embedding of its own for the outcome.

B is batch, T time, K coordinates, C width.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Float, Int, Num, Shaped
from torch import Tensor, nn

from historystore.errors import InvalidValue
from historystore.fields import leaves

from .config import ModelConfig
from .images import image_encoder, is_image


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
    """A Box, flattened, through one hidden layer: scaled to [-1, 1] where it is bounded, by symlog where it is not."""

    def __init__(self, low: Num[np.ndarray, ...], high: Num[np.ndarray, ...], width: int, hidden: int) -> None:
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
        self.layers = nn.Sequential(nn.Linear(len(low), hidden), nn.ReLU(), nn.Linear(hidden, width, bias=False))

    def forward(self, obs: Num[Tensor, "batch time ..."]) -> Float[Tensor, "batch time width"]:
        """Embed observations of any shape."""
        x = obs.reshape(*obs.shape[:2], len(self.scale)).float()  # (B, T, *shape) -> (B, T, K)
        y: Tensor = self.layers(torch.where(self.is_bounded, (x - self.middle) / self.scale, symlog(x)))
        return y


def leaf_embedding(space: gym.Space[Any], config: ModelConfig) -> nn.Module:
    """Return the module that embeds the observations of a space that is one array, or raise InvalidValue."""
    if isinstance(space, gym.spaces.Discrete):
        return CoordinateEmbedding(np.array([space.n]), np.array([space.start]), config.width, config.coordinates)
    if isinstance(space, gym.spaces.MultiDiscrete):
        counts, starts = space.nvec.ravel().astype(np.int64), space.start.ravel().astype(np.int64)
        return CoordinateEmbedding(counts, starts, config.width, config.coordinates)
    if isinstance(space, gym.spaces.MultiBinary):
        size = int(np.prod(space.shape))
        return CoordinateEmbedding(np.full(size, 2), np.zeros(size, np.int64), config.width, config.coordinates)
    if isinstance(space, gym.spaces.Box) and is_image(space):
        encoder = image_encoder(space, config.image_encoder)
        return nn.Sequential(encoder, nn.Linear(encoder.num_features, config.width))
    if isinstance(space, gym.spaces.Box):
        return VectorEmbedding(space.low, space.high, config.width, config.vector_hidden)
    raise InvalidValue(
        "observation space: distillation expects Discrete, MultiDiscrete, MultiBinary or Box, or a Dict or Tuple of "
        f"these, got {space}. Record an environment that is wrapped to have one of them."
    )


class ObservationEncoder(nn.Module):
    """What is done once to each observation, however many tokens show it; and how a token shows the outcome.

    An observation that is one array, and no image, stays as it is. An image, and the parts of a Dict or a Tuple, are
    embedded here, and the parts added up.
    """

    def __init__(self, space: gym.Space[Any], config: ModelConfig) -> None:
        super().__init__()
        self.config, self.spaces = config, dict(leaves("observation", space))
        if not self.spaces:
            raise InvalidValue(f"observation space: distillation expects something to see, got {space}.")
        only = next(iter(self.spaces.values()))
        self.is_plain = len(self.spaces) == 1 and not is_image(only)
        self.parts = nn.ModuleList(
            () if self.is_plain else (leaf_embedding(leaf, config) for leaf in self.spaces.values())
        )

    def embedding(self) -> nn.Module:
        """Make the module that embeds what `forward` returns, for one place of a token."""
        if self.is_plain:
            return leaf_embedding(next(iter(self.spaces.values())), self.config)
        return nn.Linear(self.config.width, self.config.width, bias=False)

    def forward(self, columns: Mapping[str, Shaped[Tensor, "batch time ..."]]) -> Shaped[Tensor, "batch time ..."]:
        """Encode the columns of observations, named as in a store."""
        if self.is_plain:
            return columns[next(iter(self.spaces))]
        parts = [self._embedded(name, part, columns[name]) for name, part in zip(self.spaces, self.parts, strict=True)]
        x: Tensor = sum(parts[1:], parts[0])
        return x

    def _embedded(self, name: str, part: nn.Module, column: Tensor) -> Tensor:
        """Embed one part in float32, but for convolutions, which may run in bfloat16."""
        with nullcontext() if is_image(self.spaces[name]) else torch.autocast(column.device.type, enabled=False):
            x: Tensor = part(column)
            return x.float()
