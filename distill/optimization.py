"""How weights move: AdamW without decay where it does harm, warm-up and cosine, and their running average."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from .config import TrainConfig
from .model import DistilledAgent


def learning_rate(config: TrainConfig, update: int) -> float:
    """Return the rate of an update, counted from 0: linear warm-up, then a cosine down to its end."""
    if update < config.warmup_updates:
        return config.learning_rate * (update + 1) / config.warmup_updates
    share = (update - config.warmup_updates) / max(1, config.updates - config.warmup_updates)
    height = (1.0 + math.cos(math.pi * share)) / 2.0
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * height


def make_optimizers(model: DistilledAgent, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the blocks and AdamW for everything else, or AdamW for both.

    Muon (Jordan et al., 2024; here with the step sizes of Liu et al., 2025) moves every direction of a matrix equally
    far. Only those matrices decay; biases, norms and embeddings do not.
    """
    matrices = [weight for weight in model.blocks.parameters() if weight.ndim == 2]
    chosen = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in chosen]
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "adamw":
        groups = [{"params": matrices, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
        return [torch.optim.AdamW(groups, lr=rate, betas=config.betas, fused=True)]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=config.betas, weight_decay=0.0, fused=True),
    ]


class WeightAverage:
    """An exponential moving average of a model's weights, as a model of its own; young averages follow faster."""

    def __init__(self, model: DistilledAgent, *, decay: float) -> None:
        self.decay, self.model = decay, copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def follow(self, model: nn.Module, *, update: int) -> None:
        """Move towards the weights after an update, counted from 0."""
        decay = min(self.decay, (1 + update) / (10 + update))
        for mine, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            mine.lerp_(theirs, 1.0 - decay)
        for kept, present in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(present)  # the statistics of batch norm
