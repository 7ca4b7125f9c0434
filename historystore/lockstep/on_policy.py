"""Rollouts of many on-policy learners: acting, and what the update needs of it.

L is learners, S streams, T steps; the rows of the worlds are (L, S). Nothing of a learner depends on the others in the
arrays: matrix products go learner by learner, and every size is the same whoever rides along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped
from torch import Tensor

from historystore.lockstep import categorical
from historystore.lockstep.actor_critic import ActorCritic, chunks
from historystore.lockstep.features import Features
from historystore.lockstep.population import Population
from historystore.lockstep.rollout import Rollout, advantages_of
from historystore.lockstep.scratch import Scratch, aligned_rows
from historystore.lockstep.worlds import Trace, Worlds

_CHUNK = 32
_ENDS_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSettings:
    """Hyperparameters of acting, by Stable-Baselines3's names."""

    n_steps: int
    gamma: float
    gae_lambda: float


class Collector:
    """Lives rollouts of all learners of a population.

    Args:
        population: the learners.
        networks: where their networks lie.
        worlds: their environments, streams of one learner side by side.
        settings: the hyperparameters.
        generators: what each learner draws its actions from.
        scratch: memory to compute in.
    """

    def __init__(
        self,
        population: Population,
        networks: ActorCritic,
        worlds: Worlds,
        settings: RolloutSettings,
        *,
        generators: Sequence[np.random.Generator],
        scratch: Scratch,
    ) -> None:
        self._population, self._networks, self._worlds, self._settings = population, networks, worlds, settings
        self._generators, self._scratch = generators, scratch
        self._features = Features(worlds.view_space)
        self._acting = networks.on(population.rows, Scratch())
        self._num_learners = population.num_learners
        self._num_streams = worlds.num_rows // self._num_learners

    def collect(self, on_step: Callable[[int], None]) -> tuple[Trace, Rollout]:
        """Live one rollout; `on_step` hears of the number of steps done in it, and may raise."""
        num_steps = self._settings.n_steps
        trace = Trace(self._worlds, num_steps=num_steps)
        noise, logits = self._noise(), []
        for step in range(num_steps):
            features = self._features(self._worlds.view).view(self._num_learners, self._num_streams, -1)
            logits.append(self._acting.policy.forward(features).clone())  # (L, A, S)
            actions = categorical.drawn(logits[-1], noise[:, step])
            trace.live(self._worlds, actions.reshape(-1).numpy())
            on_step(step + 1)
        rollout = self._rollout(trace, torch.stack(logits, 2))
        trace.fields = {"log_prob": self._by_time(rollout.log_probs), "value": self._by_time(rollout.values)}
        return trace, rollout

    def _noise(self) -> Float32[Tensor, "learners steps actions streams"]:
        """Return standard Gumbel noise: minus the logarithm of exponential noise."""
        num_actions = self._networks.policy.head.bias.shape[0]
        shape = (self._num_learners, self._settings.n_steps, num_actions, self._num_streams)
        noise = self._scratch.compact("noise", *shape)
        for array, generator in zip(noise.numpy(), self._generators, strict=True):
            generator.standard_exponential(out=array, dtype=np.float32)
        self._scratch.flat("noise", *shape).log_().neg_()
        return noise

    def _rollout(self, trace: Trace, logits: Float32[Tensor, "learners actions steps streams"]) -> Rollout:
        num_learners, num_streams, num_steps = self._num_learners, self._num_streams, self._settings.n_steps
        seen = self._learners_first(trace.views)  # (L, S, T + 1, ...)
        features = self._features(seen.reshape(-1, *seen.shape[3:])).view(num_learners, num_streams, num_steps + 1, -1)
        actions = self._learners_first(trace.actions)
        log_probs = torch.log_softmax(logits.transpose(2, 3), 1)  # (L, A, S, T)
        chosen = log_probs.gather(1, torch.from_numpy(actions).unsqueeze(1)).squeeze(1)
        values = self._values(features.flatten(1, 2)).view(num_learners, num_streams, num_steps + 1)
        by_time = values.permute(2, 0, 1).flatten(1)  # (T + 1, rows)
        rewards = torch.from_numpy(trace.rewards.astype(np.float32)) + self._cut_off(trace)
        advantages = advantages_of(
            rewards,
            by_time[:-1],
            torch.from_numpy(trace.terminated | trace.truncated),
            by_time[-1],
            gamma=self._settings.gamma,
            gae_lambda=self._settings.gae_lambda,
        )
        advantages = advantages.view(num_steps, num_learners, num_streams).permute(1, 2, 0)
        lived = aligned_rows(num_learners, num_streams, num_steps, self._features.num).copy_(features[:, :, :-1])
        return Rollout(
            features=lived.flatten(1, 2),
            actions=torch.from_numpy(actions).flatten(1),
            log_probs=chosen.flatten(1),
            values=values[:, :, :-1].flatten(1),
            advantages=advantages.flatten(1),
            returns=(advantages + values[:, :, :-1]).flatten(1),
        )

    def _cut_off(self, trace: Trace) -> Float32[Tensor, "steps rows"]:
        """Return what the steps that a time limit ended would have gone on to earn, discounted, by the critic."""
        gained = np.zeros(trace.truncated.shape, np.float32)
        cut = [ends for ends in trace.ends if (trace.truncated & ~trace.terminated)[ends.step, ends.rows].any()]
        if not cut:
            return torch.from_numpy(gained)
        rows = np.concatenate([ends.rows for ends in cut])
        steps = np.concatenate([np.full(len(ends.rows), ends.step) for ends in cut])
        values = self._values_of_ends(np.concatenate([ends.views for ends in cut]), rows // self._num_streams)
        is_cut = (trace.truncated & ~trace.terminated)[steps, rows]
        gained[steps, rows] = np.where(is_cut, np.float32(self._settings.gamma) * values, 0)
        return torch.from_numpy(gained)

    def _values_of_ends(
        self, views: Shaped[np.ndarray, ends * view], learners: Int64[np.ndarray, " ends"]
    ) -> Float32[np.ndarray, " ends"]:
        """Return the values of single views of some learners, so many of each learner at once."""
        order = np.argsort(learners, kind="stable")
        counts = np.bincount(learners, minlength=self._num_learners)
        places = np.empty(len(learners), np.int64)  # of each end among those of its learner
        places[order] = np.arange(len(learners)) - np.repeat(np.cumsum(counts) - counts, counts)
        features = self._features(views)
        num_blocks = -(-int(counts.max()) // _ENDS_AT_ONCE)
        padded = aligned_rows(num_blocks, self._num_learners, _ENDS_AT_ONCE, self._features.num)
        blocks, slots = places // _ENDS_AT_ONCE, places % _ENDS_AT_ONCE
        padded[blocks, learners, slots] = features
        values = torch.stack([self._values(block) for block in padded]).numpy()
        found: Float32[np.ndarray, " ends"] = values[blocks, learners, slots]
        return found

    def _values(self, features: Float32[Tensor, "learners rows features"]) -> Float32[Tensor, "learners rows"]:
        values = torch.empty(features.shape[:2])
        for chunk in chunks(self._num_learners, size=_CHUNK):
            part = slice(chunk.start, chunk.stop)
            value = self._networks.value.on(self._population.rows[part], self._scratch)
            values[part] = value.forward(features[part]).squeeze(1)
        return values

    def _learners_first(self, array: Shaped[np.ndarray, "time rows *shape"]) -> np.ndarray:
        """Return an array of the trace as (L, S, T, ...)."""
        shaped = array.reshape(len(array), self._num_learners, self._num_streams, *array.shape[2:])
        return np.ascontiguousarray(np.moveaxis(shaped, 0, 2))

    def _by_time(self, array: Float32[Tensor, "learners steps"]) -> Float32[np.ndarray, "time rows"]:
        """Return an array of the rollout as (T, L x S)."""
        shaped = array.view(self._num_learners, self._num_streams, -1)
        return shaped.permute(2, 0, 1).flatten(1).numpy()
