"""Convolutional encoders of images: the paper's, and one that a processor trains ten thousand frames a second with.

N is the number of frames, H and W their height and width, C their channels.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from historystore.errors import InvalidValue

NUM_FEATURES = 256
PAPER_BLOCKS, PAPER_CHANNELS, PAPER_DROPOUT = 3, 128, 0.2
SMALL_CHANNELS = (16, 32, 64)
SMALL_SIDE = 24
"""The small encoder averages cells of pixels such that the shorter side keeps at least so many."""
FRAMES_AT_ONCE = 256
"""Few enough that what the small encoder makes of them stays in a processor's cache."""


def is_image(space: gym.Space[Any]) -> bool:
    """Whether a space is one of images: bytes with a height, a width and channels, these first or last."""
    return isinstance(space, gym.spaces.Box) and len(space.shape) == 3 and space.dtype == np.uint8


class ImageEncoder(nn.Module):
    """Images in, vectors of `num_features` out; the shorter of the first and the last axis is taken for channels."""

    num_features = NUM_FEATURES

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__()
        self.is_channels_first = space.shape[0] < space.shape[2]
        height, width, channels = space.shape[1:] + space.shape[:1] if self.is_channels_first else space.shape
        self.height, self.width, self.channels = int(height), int(width), int(channels)

    def forward(self, images: Shaped[Tensor, "batch time *image"]) -> Float[Tensor, "batch time features"]:
        """Encode every image."""
        frames = images.flatten(0, 1)  # (B, T, ...) -> (N, ...)
        if self.is_channels_first:
            frames = frames.permute(0, 2, 3, 1)  # (N, C, H, W) -> (N, H, W, C)
        x: Tensor = self.features(frames).float()
        return x.view(*images.shape[:2], NUM_FEATURES)  # (N, F) -> (B, T, F)

    def features(self, frames: Shaped[Tensor, "frames height width channels"]) -> Float[Tensor, "frames features"]:
        """Encode frames."""
        raise NotImplementedError


class PaperEncoder(ImageEncoder):
    """Three blocks of {5x5 convolution, stride 2; batch norm; ReLU; max-pool 2; dropout}, then a linear layer.

    As in Laskin et al. (2023), whose padding is not stated: two pixels here, so that a convolution halves each side.
    A 72x96 frame costs 0.13 GFLOP forwards, which is work for a GPU.
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__(space)
        layers: list[nn.Module] = []
        channels, sides = self.channels, [self.height, self.width]
        for _ in range(PAPER_BLOCKS):
            sides = [(side + 1) // 2 // 2 for side in sides]
            layers += [
                nn.Conv2d(channels, PAPER_CHANNELS, 5, stride=2, padding=2),
                nn.BatchNorm2d(PAPER_CHANNELS),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Dropout(PAPER_DROPOUT),
            ]
            channels = PAPER_CHANNELS
        if not min(sides):
            raise InvalidValue(
                f"observation space: the paper's image encoder expects sides of 43 pixels or more, got {self.height}x"
                f"{self.width}. Use image_encoder=small."
            )
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], NUM_FEATURES))

    def features(self, frames: Shaped[Tensor, "frames height width channels"]) -> Float[Tensor, "frames features"]:
        """Encode frames, scaled to [-1, 1], all in one batch: batch norm wants them so."""
        x: Tensor = self.layers(frames.permute(0, 3, 1, 2).float() / 127.5 - 1.0)  # (N, H, W, C) -> (N, C, H, W)
        return x


class SmallEncoder(ImageEncoder):
    """Averages of square cells of pixels, then three 3x3 convolutions of stride 2 and a linear layer.

    Over a hundred times less work than the paper's; no norm, so that a frame's vector does not depend on the others'.
    Pixels at the right and the bottom that fill no cell are left out.
    """

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__(space)
        self.cell = max(1, min(self.height, self.width) // SMALL_SIDE)
        layers: list[nn.Module] = []
        channels, sides = self.channels, [self.height // self.cell, self.width // self.cell]
        for more in SMALL_CHANNELS:
            layers += [nn.Conv2d(channels, more, 3, stride=2, padding=1), nn.ReLU()]
            channels, sides = more, [(side + 1) // 2 for side in sides]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], NUM_FEATURES))

    def features(self, frames: Shaped[Tensor, "frames height width channels"]) -> Float[Tensor, "frames features"]:
        """Encode frames, a few at a time."""
        return torch.cat([self.layers(self._averages(part)) for part in torch.split(frames, FRAMES_AT_ONCE)])

    def _averages(
        self, frames: Shaped[Tensor, "frames height width channels"]
    ) -> Float[Tensor, "frames channels rows columns"]:
        """Return the mean of each cell, scaled to [-1, 1]; whole rows are added first, which vectorises."""
        cell, rows, columns = self.cell, self.height // self.cell, self.width // self.cell
        kept = frames[:, : rows * cell, : columns * cell]
        by_row = kept.reshape(-1, rows, cell, columns * cell * self.channels).unbind(2)
        sums = by_row[0].to(torch.int32 if cell > 8 else torch.int16)
        for row in by_row[1:]:
            sums = sums + row
        first, *others = sums.view(-1, rows, columns, cell, self.channels).unbind(3)
        total = first.float()
        for column in others:
            total = total + column
        return total.permute(0, 3, 1, 2) / (127.5 * cell * cell) - 1.0  # (N, rows, columns, C) -> (N, C, rows, columns)


def image_encoder(space: gym.spaces.Box, kind: str) -> ImageEncoder:
    """Make the encoder of that kind for a space of images."""
    return {"small": SmallEncoder, "paper": PaperEncoder}[kind](space)
