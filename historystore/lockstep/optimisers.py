"""The optimisers of Stable-Baselines3's policies, over the rows of many learners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float32
from torch import Tensor

Rows = Float32[Tensor, "learners width"]


@runtime_checkable
class Optimiser(Protocol):
    """What turns gradients into new parameters, each learner for itself."""

    state: dict[str, Tensor]
    """What PyTorch's optimiser keeps of each parameter, in rows laid out as the parameters."""
    num_steps: Float32[Tensor, " learners"]
    """How many steps each learner has taken."""

    def step(self, grads: Rows, *, learning_rate: float, learners: Sequence[int], first: int) -> None:
        """Step the learners of these numbers; the gradients begin with those of learner `first`."""
        ...


class Adam:
    """torch.optim.Adam without weight decay, by PyTorch's fused kernel."""

    def __init__(self, rows: Rows, *, betas: tuple[float, float], eps: float) -> None:
        self.state = {"exp_avg": torch.zeros_like(rows), "exp_avg_sq": torch.zeros_like(rows)}
        self.num_steps = torch.zeros(len(rows))
        self._betas, self._eps = betas, eps
        self._arrays = [array.unbind() for array in (rows, *self.state.values(), self.num_steps)]

    def step(self, grads: Rows, *, learning_rate: float, learners: Sequence[int], first: int) -> None:
        """Step some learners; the others keep parameters, averages and count."""
        rows, averages, squares, steps = ([array[learner] for learner in learners] for array in self._arrays)
        rows_of_grads = grads.unbind()
        self.num_steps[list(learners)] += 1
        torch._fused_adam_(
            rows,
            [rows_of_grads[learner - first] for learner in learners],
            averages,
            squares,
            [],
            steps,
            lr=learning_rate,
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=0.0,
            eps=self._eps,
            amsgrad=False,
            maximize=False,
        )


class RmsProp:
    """torch.optim.RMSprop without momentum, centering and weight decay."""

    def __init__(self, rows: Rows, *, alpha: float, eps: float) -> None:
        self.state = {"square_avg": torch.zeros_like(rows)}
        self.num_steps = torch.zeros(len(rows))
        self._rows, self._alpha, self._eps = rows, alpha, eps

    def step(self, grads: Rows, *, learning_rate: float, learners: Sequence[int], first: int) -> None:
        """Step consecutive learners: no algorithm that uses it leaves one out."""
        assert list(learners) == list(range(first, first + len(grads)))
        self.num_steps[list(learners)] += 1
        square = self.state["square_avg"][first : first + len(grads)]
        square.mul_(self._alpha).addcmul_(grads, grads, value=1 - self._alpha)
        self._rows[first : first + len(grads)].addcdiv_(grads, square.sqrt().add_(self._eps), value=-learning_rate)


def clip_gradients(grads: Rows, *, max_norm: float) -> None:
    """Scale each learner's gradients to a norm of at most `max_norm`, as torch.nn.utils.clip_grad_norm_ does."""
    norms = torch.linalg.vector_norm(grads, dim=1)
    grads.mul_((max_norm / (norms + 1e-6)).clamp_(max=1.0).unsqueeze(1))
