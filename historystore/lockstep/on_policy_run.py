"""PPO and A2C learners from their first step to their last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from stable_baselines3 import PPO

from historystore.documents import LearnerSpec
from historystore.lockstep import a2c, ppo
from historystore.lockstep.generators import Generators
from historystore.lockstep.on_policy import Collector, RolloutSettings
from historystore.lockstep.rollout import Rollout
from historystore.lockstep.scratch import Scratch
from historystore.lockstep.stretch import OnStep, Stretch, Update
from historystore.lockstep.template import OnPolicyModel, a2c_settings, actor_critic_of, population_of, ppo_settings
from historystore.lockstep.worlds import Worlds


class OnPolicyRun:
    """Learners that alternate between a rollout and an update."""

    def __init__(self, model: OnPolicyModel, specs: Sequence[LearnerSpec], worlds: Worlds) -> None:
        self.population = population_of(model, [spec.seed for spec in specs])
        self.num_steps = 0
        self._model, self._spec = model, specs[0]
        self._scratch = Scratch()
        self._generators = Generators([spec.seed for spec in specs])
        self._networks = actor_critic_of(model, self.population.layout)
        self._collector = Collector(
            self.population,
            self._networks,
            worlds,
            RolloutSettings(n_steps=model.n_steps, gamma=float(model.gamma), gae_lambda=float(model.gae_lambda)),
            generators=self._generators.actions,
            scratch=self._scratch,
        )

    @property
    def is_done(self) -> bool:
        """Whether they have lived all their steps."""
        return self.num_steps * self._spec.num_streams >= self._spec.num_steps

    @torch.inference_mode()  # a tenth faster
    def advance(self, on_step: OnStep) -> Stretch:
        """Live one rollout and learn from it."""
        done = self.num_steps
        trace, rollout = self._collector.collect(lambda steps: on_step(done + steps))
        self.num_steps = done + trace.num_steps
        logs = self._train(
            rollout, progress_remaining=1.0 - self.num_steps * self._spec.num_streams / self._spec.num_steps
        )
        return Stretch(trace=trace, updates=[Update(step=self.num_steps, logs=logs)])

    def complete(self, model: OnPolicyModel, learner: int) -> None:
        """Do nothing: parameters and optimiser are all."""

    def _train(self, rollout: Rollout, *, progress_remaining: float) -> list[dict[str, float]]:
        model = self._model
        if not isinstance(model, PPO):
            return a2c.train(
                self.population,
                self._networks,
                rollout,
                a2c_settings(model),
                progress_remaining=progress_remaining,
                scratch=self._scratch,
            )
        num_steps = rollout.actions.shape[1]
        orders = np.tile(np.arange(num_steps), (len(rollout.actions), model.n_epochs, 1))
        for order, generator in zip(orders, self._generators.orders, strict=True):
            generator.permuted(order, axis=1, out=order)
        return ppo.train(
            self.population,
            self._networks,
            rollout,
            orders,
            ppo_settings(model),
            progress_remaining=progress_remaining,
            scratch=self._scratch,
        )
