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

    name: str
    hidden: tuple[Linear, ...]
    head: Linear
    activation: Activation

    @classmethod
    def of(cls, layout: Layout, *, hidden: Sequence[str], head: str, activation_name: str) -> Mlp:
        """Take the layers with these names (`mlp_extractor.policy_net.0`, ...) from a layout."""

        def linear(name: str) -> Linear:
            return Linear(weight=layout.parameters[f"{name}.weight"], bias=layout.parameters[f"{name}.bias"])

        return cls(
            name=head, hidden=tuple(map(linear, hidden)), head=linear(head), activation=activation(activation_name)
        )

    def on(self, rows: Float32[Tensor, "learners width"], scratch: Scratch, *, suffix: str = "") -> StackedMlp:
        """Return the network of the learners of `rows`, computing in `scratch`."""
        return StackedMlp(self, rows, scratch, name=f"{self.name}{suffix}")


class StackedMlp:
    """One network for each learner of some rows; it sees changes of the rows at once.

    Results lie in memory that the next call with as many rows a learner overwrites.
    """

    def __init__(self, mlp: Mlp, rows: Float32[Tensor, "learners width"], scratch: Scratch, *, name: str) -> None:
        self._mlp, self._scratch, self._name = mlp, scratch, name
        self._num_learners = len(rows)
        self._weights = [layer.weight.of(rows) for layer in (*mlp.hidden, mlp.head)]  # (L, out, in)
        self._biases = [layer.bias.of(rows) for layer in (*mlp.hidden, mlp.head)]  # (L, out)
        self._values: list[Tensor] = []

    def forward(self, features: Float32[Tensor, "learners rows features"]) -> Float32[Tensor, "learners out rows"]:
        """Return what the head gives, with one column a row of the batch."""
        function, num_rows = self._mlp.activation, features.shape[1]
        values = [features]
        for index in range(len(self._mlp.hidden)):
            weight, bias = self._weights[index], self._biases[index]
            shape = (self._num_learners, num_rows, weight.shape[1])
            value = self._scratch.array(f"{self._name}/value{index}", *shape)
            torch.baddbmm(
                bias.unsqueeze(1), values[-1], weight.mT, beta=function.scale, alpha=function.scale, out=value
            )
            function.apply(self._scratch.flat(f"{self._name}/value{index}", *shape))
            values.append(value)
        self._values = values
        weight, bias = self._weights[-1], self._biases[-1]
        out = self._scratch.array(f"{self._name}/out", self._num_learners, weight.shape[1], num_rows)
        return torch.baddbmm(bias.unsqueeze(2), weight, values[-1].mT, out=out)

    def backward(
        self, grad_out: Float32[Tensor, "learners out rows"], grads: Float32[Tensor, "learners width"]
    ) -> None:
        """Write the gradients of the parameters into rows laid out as theirs, after `forward`."""
        head = self._mlp.head
        self._put(grads, head, grad_out, self._values[-1], num=len(self._mlp.hidden))
        torch.sum(grad_out, 2, out=head.bias.of(grads))
        grad, weight = grad_out.mT, self._weights[-1]
        for index in reversed(range(len(self._mlp.hidden))):
            layer, value = self._mlp.hidden[index], self._values[index + 1]
            grad = torch.bmm(grad, weight, out=self._scratch.array(f"gradient{index}", *value.shape))
            self._mlp.activation.differentiate(grad, value)
            self._put(grads, layer, grad.mT, self._values[index], num=index)
            torch.sum(grad, 1, out=layer.bias.of(grads))
            weight = self._weights[index]

    def _put(self, grads: Tensor, layer: Linear, left: Tensor, right: Tensor, *, num: int) -> None:
        """Write a weight's gradient; a product straight into the strided rows would be slower by a sixth."""
        product = self._scratch.array(f"product{num}", self._num_learners, *layer.weight.shape)
        layer.weight.of(grads).copy_(torch.bmm(left, right, out=product))
