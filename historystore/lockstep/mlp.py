"""The same small network of many learners at once, forward and backward, by batched matrix products.

L is learners, M rows of each learner's batch. Weights lie in the learners' rows as in `torch.nn.Linear`, (out, in).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

from historystore.lockstep.activations import Activation, activation
from historystore.lockstep.layout import Layout, Parameter
from historystore.lockstep.scratch import Scratch


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """One layer's weight and bias."""

    weight: Parameter
    bias: Parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Mlp:
    """Hidden layers with one activation function, and a head without."""

    hidden: tuple[Linear, ...]
    head: Linear
    activation: Activation

    @classmethod
    def of(cls, layout: Layout, *, hidden: Sequence[str], head: str, activation_name: str) -> Mlp:
        """Take the layers with these names (`mlp_extractor.policy_net.0`, ...) from a layout."""

        def linear(name: str) -> Linear:
            return Linear(weight=layout.parameters[f"{name}.weight"], bias=layout.parameters[f"{name}.bias"])

        return cls(hidden=tuple(map(linear, hidden)), head=linear(head), activation=activation(activation_name))

    def on(
        self,
        rows: Float32[Tensor, "learners width"],
        scratch: Scratch,
        *,
        grads: Float32[Tensor, "learners width"] | None = None,
    ) -> StackedMlp:
        """Return the network of the learners of `rows`, computing in `scratch`; `backward` writes to `grads`."""
        return StackedMlp(self, rows, scratch, grads=grads)


class StackedMlp:
    """One network for each learner of some rows; it sees changes of the rows at once.

    Results lie in scratch memory that the next forward pass of any network there overwrites: go backward before it, so
    that the processor's cache has to hold one network's values alone.
    """

    def __init__(
        self,
        mlp: Mlp,
        rows: Float32[Tensor, "learners width"],
        scratch: Scratch,
        *,
        grads: Float32[Tensor, "learners width"] | None,
    ) -> None:
        self._activation, self._scratch = mlp.activation, scratch
        self._num_learners, layers = len(rows), (*mlp.hidden, mlp.head)
        self._weights = [layer.weight.of(rows) for layer in layers]  # (L, out, in)
        self._biases = [layer.bias.of(rows) for layer in layers]  # (L, out)
        self._transposed = [weight.mT for weight in self._weights]
        self._grads = [] if grads is None else [(layer.weight.of(grads), layer.bias.of(grads)) for layer in layers]
        self._values: list[Tensor] = []

    def forward(self, features: Float32[Tensor, "learners rows features"]) -> Float32[Tensor, "learners out rows"]:
        """Return what the head gives, with one column a row of the batch."""
        function, scratch, num_rows, value = self._activation, self._scratch, features.shape[1], features
        self._values = [features]
        for index, weight in enumerate(self._transposed[:-1]):
            name, shape = f"value{index}", (self._num_learners, num_rows, weight.shape[2])
            out, bias = scratch.aligned(name, *shape), self._biases[index].unsqueeze(1)
            value = torch.baddbmm(bias, value, weight, beta=function.scale, alpha=function.scale, out=out)
            function.apply(scratch.flat(name, *shape))
            self._values.append(value)
        weight, bias = self._weights[-1], self._biases[-1].unsqueeze(2)
        out = scratch.compact("out", self._num_learners, weight.shape[1], num_rows)
        return torch.baddbmm(bias, weight, value.mT, out=out)

    def backward(self, grad_out: Float32[Tensor, "learners out rows"]) -> None:
        """Write the gradients of the parameters, after `forward`."""
        weight_grad, bias_grad = self._grads[-1]
        self._put(weight_grad, grad_out, self._values[-1])
        torch.sum(grad_out, 2, out=bias_grad)
        grad = grad_out.mT
        for index in reversed(range(len(self._weights) - 1)):
            value, (weight_grad, bias_grad) = self._values[index + 1], self._grads[index]
            out = self._scratch.aligned(f"gradient{index}", *value.shape)
            grad = torch.bmm(grad, self._weights[index + 1], out=out)
            self._activation.differentiate(grad, value)
            self._put(weight_grad, grad.mT, self._values[index])
            torch.sum(grad, 1, out=bias_grad)

    def _put(self, weight_grad: Tensor, left: Tensor, right: Tensor) -> None:
        """Write a weight's gradient; a product straight into the strided rows would be slower by a sixth."""
        product = self._scratch.aligned("product", *weight_grad.shape)
        weight_grad.copy_(torch.bmm(left, right, out=product))
