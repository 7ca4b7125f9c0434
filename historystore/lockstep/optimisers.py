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
        self._rows, self._betas, self._eps = rows, betas, eps

    def step(self, grads: Rows, *, learning_rate: float, learners: Sequence[int], first: int) -> None:
        """Step some learners; the others keep parameters, averages and count."""
        arrays = [self._rows, *self.state.values(), self.num_steps]
        if isinstance(learners, range):
            part = slice(learners.start, learners.stop)
            self._step([array[part] for array in arrays], grads[part.start - first : part.stop - first], learning_rate)
        else:
            for learner in learners:
                one = [array[learner : learner + 1] for array in arrays]
                self._step(one, grads[learner - first : learner - first + 1], learning_rate)

    def _step(self, arrays: Sequence[Tensor], grads: Tensor, learning_rate: float) -> None:
        """Step consecutive learners; those that have taken as many steps are one array to the kernel."""
        rows, average, square, num_steps = arrays
        num_steps += 1
        is_one = bool((num_steps == num_steps[0]).all())
        together = [[array] if is_one else list(array.unbind()) for array in (rows, grads, average, square)]
        torch._fused_adam_(
            together[0],
            together[1],
            together[2],
            together[3],
            [],
            [num_steps[0]] if is_one else list(num_steps.unbind()),
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
        assert learners == range(first, first + len(grads))
        part = slice(first, first + len(grads))
        self.num_steps[part] += 1
        square = self.state["square_avg"][part]
        square.mul_(self._alpha).addcmul_(grads, grads, value=1 - self._alpha)
        self._rows[part].addcdiv_(grads, square.sqrt().add_(self._eps), value=-learning_rate)


def clip_gradients(grads: Rows, *, max_norm: float) -> None:
    """Scale each learner's gradients to a norm of at most `max_norm`, as torch.nn.utils.clip_grad_norm_ does."""
    norms = torch.linalg.vector_norm(grads, dim=1)
    grads.mul_((max_norm / (norms + 1e-6)).clamp_(max=1.0).unsqueeze(1))
