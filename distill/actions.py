"""Actions as choices: what the head foretells, how a target is made of an action, and an action of a choice.

Discrete, MultiDiscrete and MultiBinary actions are choices as they stand. Each dimension of a Box is divided into
evenly spaced values, its bounds among them, and becomes a choice too. So one likelihood serves all of them: a
categorical for each choice, independent given the context, whose logarithms are summed. It can have two peaks, and it
can put much of its mass on a bound itself, as learners that squash or clip their actions do; a density puts none there,
and is unbounded where actions repeat exactly. `OrderedHead` tells it which values are neighbours.

B is batch, T time, K choices of one action, A values of all choices together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Num, Shaped
from torch import Tensor, nn

from historystore.errors import InvalidValue

PADDING = -100
"""The target at a position that no history fills: it adds nothing to the loss."""


class OrderedHead(nn.Linear):
    """Logits of choices among values in a row: a Gaussian over them, and what each value has for itself.

    `logit(v) = free_v - (c_v - mean)^2 / (2 deviation^2)` for values at places `c_v` in [-1, 1], and `free`, `mean` and
    the deviation's logarithm linear in the context. Free logits alone learn each value apart: what a learner works out
    from numbers that it saw was foretold with six times the error (`tests/test_distill_actions.py` holds the bound).
    """

    def __init__(self, width: int, counts: Sequence[int]) -> None:
        super().__init__(width, sum(counts) + 2 * len(counts))
        sizes = torch.tensor(counts)
        self.choice: Tensor
        self.place: Tensor
        self.most: Tensor
        self.register_buffer("choice", torch.repeat_interleave(sizes), persistent=False)
        place = torch.cat([torch.linspace(-1.0, 1.0, count) for count in counts])
        self.register_buffer("place", place, persistent=False)
        self.register_buffer("most", (2.0 * sizes.clamp(min=2) - 2.0).log(), persistent=False)

    def forward(self, x: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch time values"]:
        """Return the logits; a deviation is at least a quarter of what lies between two values."""
        num_choices = len(self.most)
        free, mean, sharpness = torch.split(super().forward(x), [len(self.place), num_choices, num_choices], dim=-1)
        scale = torch.minimum(sharpness, self.most).exp()  # 1 / deviation, (B, T, K)
        distance = (self.place - mean[..., self.choice]) * scale[..., self.choice]  # (B, T, A)
        logits: Tensor = free - 0.5 * distance**2
        return logits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ActionCode:
    """How the actions of a space are written as choices, each counted from 0, in arrays of the space's own shape."""

    space: gym.Space[Any]
    counts: tuple[int, ...]
    """Values of each choice."""
    first: Num[np.ndarray, "*choices"]
    """The action that each choice's 0 stands for."""
    step: Num[np.ndarray, "*choices"]
    """What one more adds to it."""

    @classmethod
    def of(cls, space: gym.Space[Any], *, bins: int) -> ActionCode:
        """Write a space's actions as choices, each continuous dimension divided into `bins` values.

        Raises:
            InvalidValue: a space of another kind, or a Box without bounds.
        """
        if isinstance(space, gym.spaces.Discrete):
            return cls._whole(space, np.array(space.n), np.array(space.start))
        if isinstance(space, gym.spaces.MultiDiscrete):
            return cls._whole(space, space.nvec, space.start)
        if isinstance(space, gym.spaces.MultiBinary):
            return cls._whole(space, np.full(space.shape, 2), np.zeros(space.shape, np.int64))
        if isinstance(space, gym.spaces.Box):
            return cls._divided(space, bins)
        raise InvalidValue(
            f"action space: distillation expects Discrete, MultiDiscrete, MultiBinary or Box, got {space}. "
            "Record an environment that is wrapped to have one of these."
        )

    @classmethod
    def _whole(
        cls, space: gym.Space[Any], counts: Int[np.ndarray, "*choices"], start: Int[np.ndarray, "*choices"]
    ) -> ActionCode:
        first = np.asarray(start, np.int64)
        return cls(space=space, counts=tuple(counts.ravel().tolist()), first=first, step=np.ones_like(first))

    @classmethod
    def _divided(cls, space: gym.spaces.Box, bins: int) -> ActionCode:
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        if not (np.isfinite(low) & np.isfinite(high)).all():
            raise InvalidValue(
                f"action space: distillation expects a Box with bounds, got {space}. "
                "Record an environment whose actions are clipped or rescaled to bounds."
            )
        counts = np.full(space.shape, bins)
        if np.issubdtype(space.dtype, np.integer):
            counts = np.minimum(counts, high - low + 1).astype(np.int64)
        counts = np.where(high > low, counts, 1)
        step = np.where(high > low, (high - low) / np.maximum(counts - 1, 1), 1.0)
        return cls(space=space, counts=tuple(counts.ravel().tolist()), first=low, step=step)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one action."""
        return self.first.shape

    @property
    def is_ordered(self) -> bool:
        """Whether neighbouring values of a choice are alike."""
        return isinstance(self.space, gym.spaces.Box)

    def head(self, width: int) -> nn.Linear:
        """Make the module that foretells the choices."""
        return OrderedHead(width, self.counts) if self.is_ordered else nn.Linear(width, sum(self.counts))

    def choices(self, action: Num[Tensor, "batch time *shape"]) -> Int[Tensor, "batch time *shape"]:
        """Return the choices nearest to some actions."""
        if not self.is_ordered:
            choice = action.long() - torch.as_tensor(self.first, device=action.device)
        else:
            first, step = (torch.as_tensor(it, device=action.device) for it in (self.first, self.step))
            choice = ((action.double() - first) / step).round().long()
        most = torch.tensor(self.counts, device=action.device).reshape(self.shape) - 1
        return choice.clamp(min=torch.zeros_like(most), max=most)

    def actions(self, choice: Int[Tensor, "envs ..."]) -> Shaped[np.ndarray, "envs ..."]:
        """Return the actions that choices stand for, as an environment takes them."""
        action = self.first + self.step * choice.cpu().numpy()
        if isinstance(self.space, gym.spaces.Box):
            is_whole = np.issubdtype(self.space.dtype, np.integer)
            action = np.clip(np.round(action) if is_whole else action, self.space.low, self.space.high)
        typed: np.ndarray = action.astype(self.space.dtype)
        return typed

    def targets(
        self, choice: Int[Tensor, "batch time *shape"], mask: Bool[Tensor, "batch time"]
    ) -> Int[Tensor, "batch time *shape"]:
        """Return choices with padding where `mask` is not set."""
        return choice.masked_fill(~mask.reshape(*mask.shape, *(1 for _ in self.shape)), PADDING)

    def loss(
        self,
        logits: Float[Tensor, "batch time values"],
        target: Int[Tensor, "batch time *shape"],
        *,
        smoothing: float = 0.0,
    ) -> Float[Tensor, ""]:
        """Return the mean negative log-likelihood of the actions, over every position that is not padding.

        That of one action is the sum over its choices. Smoothing mixes the targets with the uniform distribution; an
        action of a Box is left as it is, for its values are not equally wrong.
        """
        smoothing = 0.0 if self.is_ordered else smoothing
        targets = target.reshape(-1, len(self.counts))  # (B, T, *shape) -> (B * T, K)
        by_choice = torch.split(logits.flatten(0, 1), list(self.counts), dim=-1)  # (B * T, A)
        losses = [
            F.cross_entropy(part, targets[:, i], ignore_index=PADDING, label_smoothing=smoothing)
            for i, part in enumerate(by_choice)
        ]
        return sum(losses[1:], losses[0])

    def sample(self, logits: Float[Tensor, "envs values"], generator: torch.Generator) -> Int[Tensor, "envs ..."]:
        """Draw an action for each environment. The most likely one would stop the exploration that was distilled."""
        drawn = [
            torch.multinomial(part.softmax(-1), 1, generator=generator)
            for part in torch.split(logits, list(self.counts), dim=-1)
        ]
        return torch.cat(drawn, dim=-1).reshape(-1, *self.shape)  # (N, K) -> (N, *shape)
