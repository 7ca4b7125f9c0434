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
from historystore.lockstep.scratch import Scratch, padded

_CHUNK = 32


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
    table, explained = _table(rollout), rollout.explained_variance()
    logs: list[dict[str, float]] = []
    for chunk in chunks(population.num_learners, size=_CHUNK):
        update = _Update(population, networks, settings, ranges, chunk, scratch)
        part = slice(chunk.start, chunk.stop)
        update.run(table[part], torch.from_numpy(orders[part]), num_features=rollout.features.shape[2])
        logs += update.logs(explained[part])
    return logs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Some steps of every learner."""

    features: Float32[Tensor, "learners steps features"]
    actions: Int64[Tensor, "learners steps"]
    old_log_probs: Float32[Tensor, "learners steps"]
    advantages: Float32[Tensor, "learners steps"]
    returns: Float32[Tensor, "learners steps"]
    old_values: Float32[Tensor, "learners steps"]

    @classmethod
    def of(cls, table: Float32[Tensor, "learners steps columns"], *, num_features: int) -> _Batch:
        """Take rows of a table apart."""
        columns = table[..., num_features : num_features + 5].movedim(2, 0).contiguous()  # (5, L, steps)
        return cls(
            features=table[..., :num_features],
            actions=columns[0].long(),
            old_log_probs=columns[1],
            advantages=columns[2],
            returns=columns[3],
            old_values=columns[4],
        )

    def cut(self, start: int, stop: int) -> _Batch:
        """Return some consecutive steps of every learner."""
        return _Batch(
            features=self.features[:, start:stop],
            actions=self.actions[:, start:stop],
            old_log_probs=self.old_log_probs[:, start:stop],
            advantages=self.advantages[:, start:stop],
            returns=self.returns[:, start:stop],
            old_values=self.old_values[:, start:stop],
        )


def _table(rollout: Rollout) -> Float32[Tensor, "learners steps columns"]:
    """Return all that an update needs of a step side by side, so that one look-up fetches it; zeros fill it up."""
    num_features = rollout.features.shape[2]
    table = torch.zeros(*rollout.actions.shape, padded(num_features + 5))
    table[..., :num_features] = rollout.features
    columns = (rollout.actions, rollout.log_probs, rollout.advantages, rollout.returns, rollout.values)
    for index, column in enumerate(columns):
        table[..., num_features + index] = column
    return table


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
        self._grads = scratch.aligned("grads", len(chunk), population.layout.width)
        rows = population.rows[chunk.start : chunk.stop]
        self._networks: StackedActorCritic = networks.on(rows, scratch, grads=self._grads)
        self._active: Sequence[int] = chunk
        self._logged: list[Float32[Tensor, "quantities learners"]] = []
        self._num_batches = np.zeros(len(chunk), np.int64)
        self._num_epochs = np.zeros(len(chunk), np.int64)
        self._batches_in_epoch = 0

    def run(
        self,
        table: Float32[Tensor, "learners steps columns"],
        orders: Int64[Tensor, "learners epochs steps"],
        *,
        num_features: int,
    ) -> None:
        """Do the epochs."""
        num_learners, num_steps, num_columns = table.shape
        size, rows = self._settings.batch_size, table.flatten(0, 1)
        firsts = torch.arange(num_learners).unsqueeze(1) * num_steps
        fetched = self._scratch.aligned("fetched", num_learners, num_steps, num_columns)
        self._batches_in_epoch = math.ceil(num_steps / size)
        for epoch in range(self._settings.n_epochs):
            self._num_epochs[self._places()] += 1
            torch.index_select(rows, 0, (orders[:, epoch] + firsts).flatten(), out=fetched.flatten(0, 1))
            batch = self._prepared(_Batch.of(fetched, num_features=num_features))
            for start in range(0, num_steps, size):
                self._step(batch.cut(start, min(start + size, num_steps)))
                if not self._active:
                    return

    def _prepared(self, batch: _Batch) -> _Batch:
        """Normalise the advantages of each minibatch; one step alone has none to compare with."""
        if self._settings.normalize_advantage:
            num_steps, size = batch.advantages.shape[1], self._settings.batch_size
            num_whole = num_steps - num_steps % size
            whole, rest = batch.advantages[:, :num_whole], batch.advantages[:, num_whole:]
            whole = whole.view(len(whole), num_whole // size, size)
            for advantages in (whole, rest):
                if advantages.shape[-1] > 1:
                    advantages.copy_(normalized(advantages))
        return batch

    def _places(self) -> list[int]:
        """Return the active learners, counted from the chunk's first."""
        return [learner - self._chunk.start for learner in self._active]

    def _step(self, batch: _Batch) -> None:
        """Do one minibatch: losses, gradients and the optimiser's step."""
        settings, num_rows = self._settings, batch.actions.shape[1]
        logged = torch.empty(5, *batch.actions.shape)
        values = self._networks.value.forward(batch.features).squeeze(1)
        self._networks.value.backward(self._value_loss(values, batch, logged[1]).unsqueeze(1))
        policy = categorical.likelihood(self._networks.policy.forward(batch.features), batch.actions, self._scratch)
        grad_log_prob = self._policy_loss(policy.log_prob, batch, logged)
        logged[2] = policy.entropy
        means = logged.mean(2)
        self._logged.append(means)
        self._stop_those_above(means[4])
        if not self._active:
            return
        grad_logits = categorical.gradient(
            policy, log_prob=grad_log_prob, entropy=-settings.ent_coef / num_rows, scratch=self._scratch
        )
        self._networks.policy.backward(grad_logits)
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
        batch: _Batch,
        logged: Float32[Tensor, "quantities learners rows"],
    ) -> Float32[Tensor, "learners rows"]:
        """Return the gradient of the clipped surrogate loss; log the surrogate, where it is clipped, and the KL."""
        shape, scratch, clip = tuple(log_prob.shape), self._scratch, self._ranges.clip
        log_ratio = torch.sub(log_prob, batch.old_log_probs, out=scratch.compact("log_ratio", *shape))
        ratio = scratch.compact("ratio", *shape)
        torch.exp(scratch.flat("log_ratio", *shape), out=scratch.flat("ratio", *shape))
        plain, clipped = batch.advantages * ratio, ratio.clamp(1 - clip, 1 + clip).mul_(batch.advantages)
        torch.minimum(plain, clipped, out=logged[0])
        moved = ratio - 1
        torch.sub(moved, log_ratio, out=logged[4])
        torch.gt(moved.abs_(), clip, out=logged[3])
        return plain.mul_(plain <= clipped).mul_(-1 / shape[1])

    def _value_loss(
        self, values: Float32[Tensor, "learners rows"], batch: _Batch, logged: Float32[Tensor, "learners rows"]
    ) -> Float32[Tensor, "learners rows"]:
        """Return the weighted gradient of the squared error, clipped around the old values if asked for; log it."""
        clip, factor = self._ranges.clip_vf, self._settings.vf_coef * 2 / values.shape[1]
        if clip is None:
            error = values - batch.returns
            torch.square(error, out=logged)
            return error.mul_(factor)
        change = values - batch.old_values
        error = batch.old_values + change.clamp(-clip, clip) - batch.returns
        torch.square(error, out=logged)
        return error.mul_(factor).mul_(change.abs_() <= clip)

    def _stop_those_above(self, approx_kl: Float32[Tensor, " learners"]) -> None:
        """Count the minibatch for the active learners, then take out those whose policy has moved too far."""
        self._num_batches[self._places()] += 1
        target = self._settings.target_kl
        if target is not None:
            is_far = (approx_kl > 1.5 * target).tolist()
            if any(is_far):
                self._active = [learner for learner in self._active if not is_far[learner - self._chunk.start]]

    def logs(self, explained_variance: Sequence[float]) -> list[dict[str, float]]:
        """Count the updates, and return what is logged of each learner."""
        self._population.num_updates[self._chunk.start : self._chunk.stop] += self._num_epochs
        logged = torch.stack(self._logged).numpy().astype(float)  # (minibatches, quantities, L)
        return [self._log(logged[:, :, index], index, explained) for index, explained in enumerate(explained_variance)]

    def _log(
        self, logged: Float[np.ndarray, "minibatches quantities"], index: int, explained: float
    ) -> dict[str, float]:
        """Return one learner's log: means over its minibatches, of the KL over those of the last epoch."""
        logged = logged[: self._num_batches[index]]
        surrogate, value_loss, entropy, clip_fraction, _ = logged.mean(0).tolist()
        last_surrogate, last_value_loss, last_entropy = logged[-1, :3].tolist()
        in_last_epoch = logged[(self._num_epochs[index] - 1) * self._batches_in_epoch :]
        settings = self._settings
        log = {
            "learning_rate": self._ranges.learning_rate,
            "entropy_loss": -entropy,
            "policy_gradient_loss": -surrogate,
            "value_loss": value_loss,
            "approx_kl": float(in_last_epoch[:, 4].mean()),
            "clip_fraction": clip_fraction,
            "loss": -last_surrogate - settings.ent_coef * last_entropy + settings.vf_coef * last_value_loss,
            "explained_variance": explained,
            "n_updates": float(self._population.num_updates[self._chunk.start + index]),
            "clip_range": self._ranges.clip,
        }
        if self._ranges.clip_vf is not None:
            log["clip_range_vf"] = self._ranges.clip_vf
        return {f"train/{name}": value for name, value in log.items()}
