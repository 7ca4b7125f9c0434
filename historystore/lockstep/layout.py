"""Where each parameter of a network lies in one learner's row of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float32
from torch import Tensor

from historystore.lockstep.scratch import padded


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A stretch of a row, and the shape it has in the network."""

    start: int
    shape: tuple[int, ...]

    @property
    def stop(self) -> int:
        """The end of the stretch."""
        return self.start + prod(self.shape)

    def of(self, rows: Float32[Tensor, "learners width"]) -> Tensor:
        """Return this parameter of all learners, (learners, *shape), in the memory of their rows."""
        return rows[:, self.start : self.stop].view(len(rows), *self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Parameters by the names and in the order that `module.named_parameters()` gives them."""

    parameters: dict[str, Parameter]

    @classmethod
    def of(cls, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> Layout:
        """Put parameters of these shapes one behind the other."""
        start, parameters = 0, {}
        for name, shape in shapes:
            parameters[name] = Parameter(start=start, shape=shape)
            start = parameters[name].stop
        return cls(parameters=parameters)

    @property
    def width(self) -> int:
        """Numbers in a row: the parameters, and zeros up to a multiple of 64 bytes."""
        return padded(max(parameter.stop for parameter in self.parameters.values()))

    def rows(self, num_learners: int) -> Float32[Tensor, "learners width"]:
        """Return rows of zeros."""
        return torch.zeros(num_learners, self.width)

    def write(self, row: Float32[Tensor, " width"], tensors: Mapping[str, Tensor]) -> None:
        """Put one learner's parameters into its row."""
        for name, parameter in self.parameters.items():
            row[parameter.start : parameter.stop] = tensors[name].detach().reshape(-1)

    def read(self, row: Float32[Tensor, " width"]) -> dict[str, Tensor]:
        """Return one learner's parameters by name, in the memory of its row."""
        return {name: parameter.of(row[None])[0] for name, parameter in self.parameters.items()}
