"""Memory that a computation over learners uses again and again."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

_LANES = 64
"""A multiple of every vector length: PyTorch rounds the last few elements of an array otherwise than the others."""


class Scratch:
    """Arrays by name and shape, made at first use and kept.

    Each lies at the head of a flat one whose length is a multiple of `_LANES`. A function that is not exact to the last
    bit (exp, sigmoid) is applied to the whole flat array: then a learner's numbers do not depend on how many others
    stand in the same array (`tests/test_lockstep_leaks.py`).
    """

    def __init__(self) -> None:
        self._flat: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._shaped: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def array(self, name: str, *shape: int) -> Tensor:
        """Return the array of that name and shape, with whatever it holds."""
        try:
            return self._shaped[name, shape]
        except KeyError:
            size = prod(shape)
            flat = torch.zeros(-(-size // _LANES) * _LANES)
            self._flat[name, shape] = flat
            return self._shaped.setdefault((name, shape), flat[:size].view(shape))

    def flat(self, name: str, *shape: int) -> Tensor:
        """Return the flat array that `array(name, *shape)` is the head of."""
        self.array(name, *shape)
        return self._flat[name, shape]
