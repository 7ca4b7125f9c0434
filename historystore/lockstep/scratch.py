"""Memory that a computation over learners uses again and again, laid out so that learners do not touch each other.

Two things make the last bit of a learner's numbers depend on where it stands in an array. A matrix product may round
otherwise when a matrix starts elsewhere relative to 64 bytes; and functions that are not exact (exp, sigmoid) round
the last few elements of an array otherwise than the others. So each learner's part begins at a multiple of 64 bytes,
and such functions are applied to arrays that end at one (`tests/test_lockstep_leaks.py`).
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

LANES = 16
"""Numbers of float32 in 64 bytes."""
_TAIL = 64
"""A multiple of what PyTorch's vector loops take at once."""


def padded(size: int, *, to: int = LANES) -> int:
    """Return the next multiple of `to`."""
    return -(-size // to) * to


def aligned_rows(*shape: int) -> Tensor:
    """Return zeros whose rows, the last axis, begin at multiples of 64 bytes."""
    return torch.zeros(*shape[:-1], padded(shape[-1]))[..., : shape[-1]]


class Scratch:
    """Arrays by name and shape, made at first use and kept; the first axis is learners."""

    def __init__(self) -> None:
        self._flat: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._shaped: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def aligned(self, name: str, *shape: int) -> Tensor:
        """Return the array of that name and shape, with whatever it holds; fit for matrix products."""
        try:
            return self._shaped[name, shape]
        except KeyError:
            return self._made(name, shape, stride=padded(prod(shape[1:])))

    def compact(self, name: str, *shape: int) -> Tensor:
        """Return the array of that name and shape, with whatever it holds; contiguous, for all but products."""
        try:
            return self._shaped[name, shape]
        except KeyError:
            return self._made(name, shape, stride=prod(shape[1:]))

    def flat(self, name: str, *shape: int) -> Tensor:
        """Return the flat array that this one lies in: its elements, and room between and behind them."""
        return self._flat[name, shape]

    def _made(self, name: str, shape: tuple[int, ...], *, stride: int) -> Tensor:
        flat = torch.zeros(padded(shape[0] * stride, to=_TAIL))
        self._flat[name, shape] = flat
        rows = flat[: shape[0] * stride].view(shape[0], stride)[:, : prod(shape[1:])]
        return self._shaped.setdefault((name, shape), rows.view(shape))
