"""Stable-Baselines3 models, and learners in lockstep that start each update from their state."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from historystore.lockstep.features import Features
from historystore.lockstep.population import Population
from historystore.lockstep.rollout import Rollout
from historystore.lockstep.template import network_of, population_of

SPACES = {
    "box": spaces.Box(-2.0, 2.0, (3,), np.float32),
    "discrete": spaces.Discrete(5),
    "multi": spaces.MultiDiscrete([3, 4]),
    "binary": spaces.MultiBinary(4),
}
ROUNDING = 2.4e-7
"""Two units in the last place of a parameter of size 1: a float32 can tell no more."""
WITNESSES = 3
"""Learners that ride along with the one that is compared."""


class NoisyEnv(gym.Env[Any, Any]):
    """Show random observations, pay for action 0 and noise, terminate and truncate at random."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = space, spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        chance = self.np_random.random(2)
        reward = float(action == 0) + float(self.np_random.normal())
        return self.observation_space.sample(), reward, bool(chance[0] < 0.05), bool(chance[1] < 0.1), {}


def model_of(algorithm: str, space: str, *, num_streams: int, seed: int, **hyperparameters: Any) -> Any:
    """Build a model that is about to learn."""
    envs = [lambda: NoisyEnv(SPACES[space]) for _ in range(num_streams)]
    model = getattr(stable_baselines3, algorithm)(
        "MlpPolicy", DummyVecEnv(envs), seed=seed, device="cpu", **hyperparameters
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    model._setup_learn(10**6)
    return model


class Nothing(BaseCallback):
    """Listens to nothing."""

    def _on_step(self) -> bool:
        return True


def collect(model: Any) -> Rollout:
    """Let an on-policy model live a rollout, and return it as learners in lockstep take it, with one learner."""
    callback = Nothing()
    callback.init_callback(model)
    buffer = model.rollout_buffer
    model.collect_rollouts(model.env, callback, buffer, n_rollout_steps=model.n_steps)

    def flat(array: np.ndarray) -> np.ndarray:
        return array.swapaxes(0, 1).reshape(1, -1, *array.shape[2:])  # (1, streams * steps, ...)

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(flat(array).copy())

    features = Features(model.observation_space)(flat(buffer.observations)[0])
    return Rollout(
        features=features.unsqueeze(0),
        actions=tensor(buffer.actions).squeeze(2).long(),
        log_probs=tensor(buffer.log_probs),
        values=tensor(buffer.values),
        advantages=tensor(buffer.advantages),
        returns=tensor(buffer.returns),
    )


def shuffled_with_witnesses(rollout: Rollout, *, rng: np.random.Generator) -> Rollout:
    """Return the rollout of learner 0, with learners beside it whose rollouts hold the same steps in other orders."""
    orders = [
        np.arange(rollout.actions.shape[1]),
        *(rng.permutation(rollout.actions.shape[1]) for _ in range(WITNESSES)),
    ]
    return Rollout(
        **{name: torch.cat([getattr(rollout, name)[:, order] for order in orders]) for name in rollout.__slots__}
    )


def load_state(model: Any, population: Population, *, learner: int) -> None:
    """Give a learner the parameters, optimiser state and count of a model."""
    network = network_of(model)
    state = [model.policy.optimizer.state[parameter] for parameter in network.parameters()]
    population.load(learner, dict(network.named_parameters()), optimiser=state if all(state) else ())
    population.num_updates[learner] = model._n_updates


def crowd_of(model: Any) -> Population:
    """Return learners of which number 0 has the state of the model and the others have other weights."""
    return population_of(model, [0, *range(100, 100 + WITNESSES)])


def parameters_of(model: Any, population: Population, *, learner: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all parameters of a model and of a learner, each in one row."""
    theirs = torch.nn.utils.parameters_to_vector(network_of(model).parameters()).detach()
    return theirs, population.rows[learner, : len(theirs)].clone()


def logged(model: Any) -> dict[str, float]:
    """Return what the model's logger holds."""
    return {name: float(value) for name, value in model.logger.name_to_value.items() if name.startswith("train/")}


def apart(model: Any, population: Population, before: torch.Tensor) -> float:
    """Return the largest difference of a parameter, beyond its own rounding, as a share of the largest move of one."""
    theirs, ours = parameters_of(model, population, learner=0)
    rounding = ROUNDING * float(theirs.abs().max().clamp(min=1.0))
    beyond = max(float((theirs - ours).abs().max()) - rounding, 0.0)
    return beyond / max(float((theirs - before).abs().max()), 1e-9)


def differences(
    theirs: dict[str, float], ours: dict[str, float], *, tolerance: float
) -> dict[str, tuple[float, float]]:
    """Return the logged values that differ by more than a share, or that only one has."""
    return {
        name: (theirs.get(name, np.inf), ours.get(name, np.inf))
        for name in theirs.keys() | ours.keys()
        if not np.isclose(
            theirs.get(name, np.inf), ours.get(name, -np.inf), rtol=tolerance, atol=tolerance, equal_nan=True
        )
    }
