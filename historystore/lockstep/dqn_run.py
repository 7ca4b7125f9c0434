"""DQN learners from their first step to their last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from stable_baselines3 import DQN

from historystore.documents import LearnerSpec
from historystore.lockstep import dqn
from historystore.lockstep.features import Features
from historystore.lockstep.generators import Generators
from historystore.lockstep.replay import Replay
from historystore.lockstep.scratch import Scratch
from historystore.lockstep.stretch import OnStep, Stretch, Update
from historystore.lockstep.template import dqn_settings, population_of
from historystore.lockstep.worlds import Trace, Worlds

STEPS_AT_ONCE = 200
"""Steps of each stream that are recorded together, about."""


class DqnRun:
    """Learners that act by a Q-network, and learn every few steps from what they remember."""

    def __init__(self, model: DQN, specs: Sequence[LearnerSpec], worlds: Worlds) -> None:
        self.population = population_of(model, [spec.seed for spec in specs])
        self.num_steps = 0
        self._settings, self._spec, self._worlds = dqn_settings(model), specs[0], worlds
        self._network = dqn.q_network_of(
            self.population.layout,
            num_hidden=len(model.policy.net_arch),
            activation_name=model.policy.activation_fn.__name__,
        )
        self._targets = self.population.rows.clone()
        self._scratch = Scratch()
        self._acting = self._network.on(self.population.rows, Scratch())
        self._features = Features(worlds.view_space)
        self._generators = Generators([spec.seed for spec in specs])
        self._num_rounds = -(-self._spec.num_steps // (self._settings.train_freq * self._spec.num_streams))
        capacity = max(self._settings.buffer_size // self._spec.num_streams, 1)
        self._replay = Replay(
            self._features,
            capacity=min(capacity, self._num_rounds * self._settings.train_freq),
            num_learners=len(specs),
        )
        self._exploration_rate = 0.0  # as Stable-Baselines3 begins
        self._num_episodes = np.zeros(len(specs), np.int64)

    @property
    def is_done(self) -> bool:
        """Whether they have lived all their steps."""
        return self.num_steps == self._num_rounds * self._settings.train_freq

    @torch.inference_mode()  # a tenth faster
    def advance(self, on_step: OnStep) -> Stretch:
        """Live some rounds of acting and learning."""
        freq, num_streams = self._settings.train_freq, self._spec.num_streams
        num_left = self._num_rounds - self.num_steps // freq
        trace = Trace(self._worlds, num_steps=min(max(STEPS_AT_ONCE // freq, 1), num_left) * freq)
        chances = np.stack([rng.random((trace.length, 1 + num_streams)) for rng in self._generators.actions], 1)
        updates = []
        for chance in chances:  # (L, 1 + S)
            self._act(trace, chance)
            self.num_steps += 1
            on_step(self.num_steps)
            if self.num_steps % freq == 0 and self.num_steps * num_streams > self._settings.learning_starts:
                updates += self._learn()
        for ends in trace.ends:
            np.add.at(self._num_episodes, ends.rows // num_streams, 1)
        return Stretch(trace=trace, updates=updates)

    def complete(self, model: DQN, learner: int) -> None:
        """Give a model the learner's target network and where its exploration stands."""
        targets = self.population.layout.read(self._targets[learner])
        with torch.no_grad():
            for name, parameter in model.policy.q_net_target.named_parameters():
                parameter.copy_(targets[name])
        model.exploration_rate = self._exploration_rate
        model._n_calls = self.num_steps
        model._episode_num = int(self._num_episodes[learner])

    def _progress_remaining(self) -> float:
        return 1.0 - self.num_steps * self._spec.num_streams / self._spec.num_steps

    def _act(self, trace: Trace, chance: Float[np.ndarray, "learners draws"]) -> None:
        """Do one step: at random with the learner's one coin for all its streams, else the best action."""
        num_learners, num_streams = self.population.num_learners, self._spec.num_streams
        features = self._features(self._worlds.view).view(num_learners, num_streams, -1)
        values = self._acting.forward(features)  # (L, A, S)
        drawn = (chance[:, 1:] * values.shape[1]).astype(np.int64)  # (L, S)
        is_warming_up = self.num_steps * num_streams < self._settings.learning_starts
        is_random = chance[:, :1] < (1.0 if is_warming_up else self._exploration_rate)
        trace.live(self._worlds, np.where(is_random, drawn, values.argmax(1).numpy()).reshape(-1))
        self._replay.add(trace)
        num_calls = self.num_steps + 1
        if num_calls % max(self._settings.target_update_interval // num_streams, 1) == 0:
            dqn.follow(self._targets, self.population.rows, tau=self._settings.tau)
        self._exploration_rate = self._settings.exploration(1.0 - num_calls * num_streams / self._spec.num_steps)

    def _learn(self) -> list[Update]:
        """Take the gradient steps of one round."""
        settings, progress = self._settings, self._progress_remaining()
        num_gradient_steps = settings.gradient_steps
        if num_gradient_steps < 0:
            num_gradient_steps = settings.train_freq * self._spec.num_streams
        losses = []
        for _ in range(num_gradient_steps):
            steps, streams = self._drawn()
            batch = self._replay.transitions(steps, streams)
            losses.append(
                dqn.train(
                    self.population,
                    self._targets,
                    self._network,
                    batch,
                    settings,
                    progress_remaining=progress,
                    scratch=self._scratch,
                )
            )
        if not losses:
            return []
        self.population.num_updates[:] += num_gradient_steps
        means = torch.stack(losses).double().mean(0).tolist()
        shared = {
            "rollout/exploration_rate": self._exploration_rate,
            "train/learning_rate": settings.learning_rate(progress),
        }
        logs = [
            shared | {"train/n_updates": float(count), "train/loss": loss}
            for count, loss in zip(self.population.num_updates, means, strict=True)
        ]
        return [Update(step=self.num_steps, logs=logs)]

    def _drawn(self) -> tuple[Int64[np.ndarray, "learners batch"], Int64[np.ndarray, "learners batch"]]:
        """Draw which steps of which streams each learner replays."""
        size, num_streams = self._settings.batch_size, self._spec.num_streams
        places = [rng.integers(self._replay.num_steps * num_streams, size=size) for rng in self._generators.orders]
        return np.divmod(np.stack(places), num_streams)
