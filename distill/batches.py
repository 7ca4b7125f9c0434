"""Windows of a store as what the transformer trains on, and its loss there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import nn

from historystore.splits import Task
from historystore.store import Store
from historystore.torch import WindowDataset, WindowRange

from .config import TrainConfig
from .model import DistilledAgent
from .tokens import Tokens, window_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some windows: what the learner saw, did and got at each position, and what is to be foretold there."""

    columns: Mapping[str, Shaped[torch.Tensor, "batch time ..."]]
    """Observations by the names of their columns, as they were recorded."""
    action: Int[torch.Tensor, "batch time *choices"]
    reward: Float[torch.Tensor, "batch time"]
    episode_start: Bool[torch.Tensor, "batch time"]
    target: Int[torch.Tensor, "batch time *choices"]

    def tokens(self, agent: DistilledAgent) -> Tokens:
        """Return what an agent reads; each observation is encoded once."""
        return window_tokens(
            observation=agent.encode(self.columns),
            action=self.action,
            reward=self.reward,
            episode_start=self.episode_start,
        )


class Objective(nn.Module):
    """The loss of a batch as one module, so that gradients of everything in it are shared between devices."""

    def __init__(self, agent: DistilledAgent, config: TrainConfig) -> None:
        super().__init__()
        self.agent, self.masking, self.smoothing = agent, config.token_masking, config.label_smoothing

    def forward(self, batch: Batch) -> Float[torch.Tensor, ""]:
        """Return the loss, with some of what came before each action hidden."""
        logits = self.agent(batch.tokens(self.agent).masked(self.masking))
        return self.agent.actions.loss(logits, batch.target, smoothing=self.smoothing)


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
    return all(best is not None for best in bests)


def read_batch(windows: WindowDataset, *, start: int, stop: int, agent: DistilledAgent) -> Batch:
    """Read the windows `start` to `stop` for an agent: a function of the dataset's seed and of these numbers."""
    columns = {name: tensor.to(agent.device) for name, tensor in windows[WindowRange(0, start, stop)].items()}
    action = agent.actions.choices(columns["action"])
    return Batch(
        columns={name: column for name, column in columns.items() if name.startswith("observation")},
        action=action,
        reward=columns["reward"],
        episode_start=columns["episode_start"],
        target=agent.actions.targets(action, columns["mask"]),
    )
