"""Windows of a store as what the transformer trains on: tokens and the actions to predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int

from historystore.splits import Task
from historystore.store import Store
from historystore.torch import WindowDataset, WindowRange

from .config import TrainConfig
from .model import DistilledAgent
from .tokens import Tokens, window_tokens

PADDING = -100
"""The target at a position that no history fills: it adds nothing to the loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some windows and, at each position, the action that the learner took there, counted from 0."""

    tokens: Tokens
    target: Int[torch.Tensor, "batch time"]


def windows_of(stores: Sequence[Store], tasks: Sequence[Task], config: TrainConfig) -> WindowDataset:
    """Return the windows of some tasks that a configuration trains on.

    `min_progress` counts where every task's best return is known. Expert distillation sees only the ends of histories,
    episode by episode: there is no learning left to speed up.
    """
    is_expert = config.method == "ed"
    return WindowDataset(
        stores,
        context_length=config.context_length,
        fields=("observation", "action", "reward"),
        episode_stride=1 if is_expert else config.episode_stride,
        from_start=config.from_start,
        splice=config.splice,
        history_part=(1.0 - config.expert_share, 1.0) if is_expert else (0.0, 1.0),
        tasks=tasks,
        min_progress=config.min_progress if _is_progress_known(stores) else None,
        seed=config.seed,
    )


def _is_progress_known(stores: Sequence[Store]) -> bool:
    """Whether it can be told of every learner how far it came, because its task's best return is known."""
    bests = (learner.row.provenance.best_return for store in stores for learner in store.learners)
    return all(best is not None and best > 0 for best in bests)


def read_batch(windows: WindowDataset, *, start: int, stop: int, agent: DistilledAgent) -> Batch:
    """Read the windows `start` to `stop` for an agent: a function of the dataset's seed and of these numbers."""
    columns = {name: tensor.to(agent.device) for name, tensor in windows[WindowRange(0, start, stop)].items()}
    action = columns["action"].long() - agent.first_action
    tokens = window_tokens(
        observation=columns["observation"],
        action=action,
        reward=columns["reward"],
        episode_start=columns["episode_start"],
    )
    return Batch(tokens=tokens, target=action.masked_fill(~columns["mask"], PADDING))


def action_loss(
    logits: Float[torch.Tensor, "batch time actions"],
    target: Int[torch.Tensor, "batch time"],
    *,
    smoothing: float = 0.0,
) -> Float[torch.Tensor, ""]:
    """Return the mean negative log-likelihood of the actions, over every position that is not padding."""
    return F.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=PADDING, label_smoothing=smoothing
    )  # (B * T, A) against (B * T,)
