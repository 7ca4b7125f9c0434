"""PPO's update (Schulman et al., arXiv 1707.06347) of many learners at once, equal to Stable-Baselines3's.

`tests/test_lockstep_ppo.py` holds it against `PPO.train()`, from the same weights, rollout and minibatch order. L is
learners, M the rows of each learner's minibatch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from historystore.lockstep import categorical
from historystore.lockstep.actor_critic import ActorCritic, StackedActorCritic, chunks
from historystore.lockstep.optimisers import clip_gradients
from historystore.lockstep.population import Population
from historystore.lockstep.rollout import Rollout, normalized
from historystore.lockstep.schedules import Schedule
from historystore.lockstep.scratch import Scratch

_CHUNK = 32
_LOGGED = ("policy_gradient_loss", "value_loss", "entropy_loss", "loss", "clip_fraction", "approx_kl")


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoSettings:
    """Hyperparameters of the update, by Stable-Baselines3's names."""

    batch_size: int
    n_epochs: int
    learning_rate: Schedule
    clip_range: Schedule
    clip_range_vf: Schedule | None
    normalize_advantage: bool
    ent_coef: float
    vf_coef: float
    max_grad_norm: float
    target_kl: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranges:
    """What the schedules say for one update."""

    learning_rate: float
    clip: float
    clip_vf: float | None


def train(
    population: Population,
    networks: ActorCritic,
    rollout: Rollout,
    orders: Int64[np.ndarray, "learners epochs steps"],
    settings: PpoSettings,
    *,
    progress_remaining: float,
    scratch: Scratch,
) -> list[dict[str, float]]:
    """Update every learner and return what Stable-Baselines3's logger would hold of each.

    Args:
        population: the learners; parameters, optimiser state and counts change in place.
        networks: where their networks lie.
        rollout: what they have lived.
        orders: the order of the steps in each learner's minibatches, one permutation an epoch.
        settings: the hyperparameters.
        progress_remaining: from 1 at the beginning of the training to 0.
        scratch: memory to compute in.
    """
    ranges = _Ranges(
        learning_rate=settings.learning_rate(progress_remaining),
        clip=settings.clip_range(progress_remaining),
        clip_vf=None if settings.clip_range_vf is None else settings.clip_range_vf(progress_remaining),
    )
    table = _table(rollout)
    explained = rollout.explained_variance()
    logs: list[dict[str, float]] = []
    for chunk in chunks(population.num_learners, size=_CHUNK):
        update = _Update(population, networks, settings, ranges, chunk, scratch)
        update.run(table[chunk.start : chunk.stop], torch.from_numpy(orders[chunk.start : chunk.stop]))
        logs += update.logs(explained[chunk.start : chunk.stop])
    return logs


def _table(rollout: Rollout) -> Float32[Tensor, "learners steps columns"]:
    """Return features and everything else of each step side by side: one look-up fetches a minibatch's row."""
    columns = [rollout.actions.float(), rollout.log_probs, rollout.advantages, rollout.returns, rollout.values]
    return torch.cat([rollout.features, torch.stack(columns, 2)], 2)


class _Update:
    """The update of one chunk of learners; those that target_kl has stopped ride along, and nothing of theirs moves."""

    def __init__(
        self,
        population: Population,
        networks: ActorCritic,
        settings: PpoSettings,
        ranges: _Ranges,
        chunk: range,
        scratch: Scratch,
    ) -> None:
        self._population, self._settings, self._ranges, self._scratch = population, settings, ranges, scratch
        self._chunk = chunk
        self._networks: StackedActorCritic = networks.on(population.rows[chunk.start : chunk.stop], scratch)
        self._grads = scratch.array("grads", len(chunk), population.layout.width)
        self._active = list(chunk)
        self._logged: list[Float32[Tensor, "quantities learners"]] = []
        self._num_batches = np.zeros(len(chunk), np.int64)
        self._num_epochs = np.zeros(len(chunk), np.int64)
        self._batches_in_epoch = 0

    def run(self, table: Float32[Tensor, "learners steps columns"], orders: Int64[Tensor, "learners epochs steps"]) -> None:
        """Do the epochs."""
        num_learners, num_steps, num_columns = table.shape
        rows = table.reshape(-1, num_columns)
        self._batches_in_epoch = math.ceil(num_steps / self._settings.batch_size)
        offsets = torch.arange(num_learners).unsqueeze(1) * num_steps
        for epoch in range(self._settings.n_epochs):
            order = orders[:, epoch] + offsets  # (L, N), rows of the flat table
            self._num_epochs[[learner - self._chunk.start for learner in self._active]] += 1
            for start in range(0, num_steps, self._settings.batch_size):
                index = order[:, start : start + self._settings.batch_size]
                batch = self._scratch.array("batch", index.numel(), num_columns)
                torch.index_select(rows, 0, index.reshape(-1), out=batch)
                self._step(batch.view(*index.shape, num_columns))
                if not self._active:
                    return

    def _step(self, batch: Float32[Tensor, "learners rows columns"]) -> None:
        """Do one minibatch: losses, gradients and the optimiser's step."""
        settings, scratch = self._settings, self._scratch
        num_learners, num_rows, num_columns = batch.shape
        num_features = num_columns - 5
        columns = scratch.array("columns", 5, num_learners, num_rows).copy_(batch[..., num_features:].movedim(2, 0))
        features, actions = batch[..., :num_features], columns[0].long()
        values = self._networks.value.forward(features).squeeze(1)
        policy = categorical.likelihood(self._networks.policy.forward(features), actions, scratch)
        policy_loss, grad_log_prob, clip_fraction, approx_kl = self._policy_loss(policy.log_prob, columns[1], columns[2])
        value_loss, grad_value = self._value_loss(values, columns[3], columns[4])
        entropy_loss = policy.entropy.mean(1).neg_()
        loss = policy_loss + settings.ent_coef * entropy_loss + settings.vf_coef * value_loss
        self._logged.append(torch.stack([policy_loss, value_loss, entropy_loss, loss, clip_fraction, approx_kl]))
        self._stop_those_above(approx_kl)
        if not self._active:
            return
        grad_logits = categorical.gradient(
            policy, log_prob=grad_log_prob, entropy=-settings.ent_coef / num_rows, scratch=scratch
        )
        self._networks.policy.backward(grad_logits, self._grads)
        self._networks.value.backward(grad_value.unsqueeze(1), self._grads)
        clip_gradients(self._grads, max_norm=settings.max_grad_norm)
        self._population.optimiser.step(
            self._grads,
            learning_rate=self._ranges.learning_rate,
            learners=self._active,
            first=self._chunk.start,
        )

    def _policy_loss(
        self,
        log_prob: Float32[Tensor, "learners rows"],
        old_log_prob: Float32[Tensor, "learners rows"],
        advantages: Float32[Tensor, "learners rows"],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the clipped surrogate loss, its gradient for the log-probabilities, the clipped share and the KL."""
        shape, scratch = tuple(log_prob.shape), self._scratch
        if self._settings.normalize_advantage and shape[1] > 1:
            advantages = normalized(advantages)
        log_ratio = torch.sub(log_prob, old_log_prob, out=scratch.array("log_ratio", *shape))
        ratio = scratch.array("ratio", *shape)
        torch.exp(scratch.flat("log_ratio", *shape), out=scratch.flat("ratio", *shape))
        clip = self._ranges.clip
        plain, clipped = advantages * ratio, advantages * ratio.clamp(1 - clip, 1 + clip)
        loss = torch.minimum(plain, clipped).mean(1).neg_()
        gradient = plain * (plain <= clipped) * (-1 / shape[1])
        clip_fraction = ((ratio - 1).abs_() > clip).float().mean(1)
        approx_kl = ((ratio - 1) - log_ratio).mean(1)
        return loss, gradient, clip_fraction, approx_kl

    def _value_loss(
        self,
        values: Float32[Tensor, "learners rows"],
        returns: Float32[Tensor, "learners rows"],
        old_values: Float32[Tensor, "learners rows"],
    ) -> tuple[Tensor, Tensor]:
        """Return the mean squared error, clipped around the old values if asked for, and its weighted gradient."""
        clip, factor = self._ranges.clip_vf, self._settings.vf_coef * 2 / values.shape[1]
        if clip is None:
            error = values - returns
            return error.square().mean(1), error * factor
        change = values - old_values
        error = old_values + change.clamp(-clip, clip) - returns
        return error.square().mean(1), error * factor * (change.abs() <= clip)

    def _stop_those_above(self, approx_kl: Float32[Tensor, " learners"]) -> None:
        """Count the minibatch for the active learners, then take out those whose policy has moved too far."""
        first, target = self._chunk.start, self._settings.target_kl
        self._num_batches[[learner - first for learner in self._active]] += 1
        if target is not None:
            kls = approx_kl.tolist()
            self._active = [learner for learner in self._active if not kls[learner - first] > 1.5 * target]

    def logs(self, explained_variance: Sequence[float]) -> list[dict[str, float]]:
        """Count the updates, and return what is logged of each learner."""
        self._population.num_updates[self._chunk.start : self._chunk.stop] += self._num_epochs
        logged = torch.stack(self._logged).numpy().astype(float)  # (minibatches, quantities, L)
        return [self._log(logged[:, :, index], index, explained) for index, explained in enumerate(explained_variance)]

    def _log(self, logged: Float[np.ndarray, "minibatches quantities"], index: int, explained: float) -> dict[str, float]:
        """Return one learner's log: means over its minibatches, of the KL over those of the last epoch."""
        logged = logged[: self._num_batches[index]]
        means = dict(zip(_LOGGED, logged.mean(0).tolist(), strict=True))
        in_last_epoch = logged[(self._num_epochs[index] - 1) * self._batches_in_epoch :]
        log = means | {
            "loss": float(logged[-1, _LOGGED.index("loss")]),
            "approx_kl": float(in_last_epoch[:, _LOGGED.index("approx_kl")].mean()),
            "explained_variance": explained,
            "learning_rate": self._ranges.learning_rate,
            "n_updates": float(self._population.num_updates[self._chunk.start + index]),
            "clip_range": self._ranges.clip,
        }
        if self._ranges.clip_vf is not None:
            log["clip_range_vf"] = self._ranges.clip_vf
        return {f"train/{name}": value for name, value in log.items()}
