"""Observations as a network sees them, as Stable-Baselines3's preprocessing and FlattenExtractor make them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float32, Shaped
from torch import Tensor

from historystore.lockstep.scratch import aligned_rows


class Features:
    """Turns observations of one space into rows of float32: numbers as they are, Discrete and MultiDiscrete one-hot."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        self._offsets: np.ndarray | None = None
        match space:
            case spaces.Discrete():
                self._offsets, self.num = np.zeros(1, np.int64), int(space.n)
            case spaces.MultiDiscrete():
                self._offsets, self.num = np.cumsum(space.nvec) - space.nvec, int(space.nvec.sum())
            case _:
                self.num = int(np.prod(space.shape or (1,)))

    def __call__(self, observations: Shaped[np.ndarray, rows * shape]) -> Float32[Tensor, "rows features"]:
        """Return the features of each row, in aligned memory of their own."""
        flat = observations.reshape(len(observations), -1)  # (rows, numbers)
        features = aligned_rows(len(flat), self.num)
        if self._offsets is None:
            return features.copy_(torch.from_numpy(flat))
        return features.scatter_(1, torch.from_numpy(flat + self._offsets), 1.0)
