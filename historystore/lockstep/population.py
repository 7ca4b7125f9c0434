"""The learners that advance together: their parameters and optimiser state, a row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from historystore.lockstep.layout import Layout
from historystore.lockstep.optimisers import Optimiser


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Parameters of many learners in the order of Stable-Baselines3's policy."""

    layout: Layout
    rows: Float32[Tensor, "learners width"]
    optimiser: Optimiser
    num_updates: np.ndarray
    """What Stable-Baselines3 counts as `_n_updates`, of each learner."""

    @property
    def num_learners(self) -> int:
        """How many there are."""
        return len(self.rows)

    def is_finite(self) -> list[bool]:
        """Return of each learner whether all its parameters are numbers."""
        return torch.isfinite(self.rows.sum(1)).tolist()

    def load(
        self, learner: int, parameters: Mapping[str, Tensor], *, optimiser: Sequence[Mapping[str, Tensor]] = ()
    ) -> None:
        """Take over one learner's parameters by name, and what its optimiser keeps of each, in the same order."""
        self.layout.write(self.rows[learner], parameters)
        for name, rows in self.optimiser.state.items():
            if optimiser:
                kept = {key: entry[name] for key, entry in zip(self.layout.parameters, optimiser, strict=True)}
                self.layout.write(rows[learner], kept)
                self.optimiser.num_steps[learner] = float(optimiser[0]["step"])

    def optimiser_state(self, learner: int) -> list[dict[str, Tensor]]:
        """Return what PyTorch's optimiser would keep of each of one learner's parameters."""
        steps = self.optimiser.num_steps[learner]
        kept = {name: self.layout.read(rows[learner]) for name, rows in self.optimiser.state.items()}
        return [
            {"step": steps.clone()} | {name: arrays[key] for name, arrays in kept.items()}
            for key in self.layout.parameters
        ]
