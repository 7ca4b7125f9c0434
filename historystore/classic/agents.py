"""The algorithms by the names in specifications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Int64

from historystore.classic.agent import Agent
from historystore.classic.draws import learner_generators
from historystore.classic.expert import NoisyExpert
from historystore.classic.q_learning import QLearning
from historystore.classic.settings import (
    ExpertSettings,
    NoiseSettings,
    QLearningSettings,
    ThompsonSettings,
    UcbSettings,
    settings_of,
)
from historystore.classic.thompson import Thompson
from historystore.classic.ucb import Ucb
from historystore.documents import LearnerSpec
from historystore.errors import InvalidValue
from historystore.tasks.protocol import BatchedEnv, KnowsBest


def build_agent(template: LearnerSpec, seeds: Sequence[int], envs: BatchedEnv) -> Agent:
    """Build the learners of a template that have these seeds and act in these environments.

    Raises:
        InvalidValue: a hyperparameter is out of its range, or the algorithm cannot act in such environments.
    """
    settings, generators = settings_of(template), learner_generators(seeds)
    actions = _discrete(template.algorithm, envs.action_space)
    num_actions, num_steps = int(actions.n), template.num_steps
    match settings:
        case UcbSettings():
            return Ucb(settings, generators, num_actions=num_actions)
        case ThompsonSettings():
            return Thompson(settings, generators, num_actions=num_actions)
        case QLearningSettings():
            space = envs.source_observation_space or envs.observation_space
            return QLearning(settings, generators, space=space, num_actions=num_actions, num_steps=num_steps)
        case NoiseSettings() | ExpertSettings():
            guide = _guide(template, envs)

            def best_actions() -> Int64[np.ndarray, " learners"]:
                return guide.expert_actions() - int(actions.start)

            return NoisyExpert(
                settings, generators, best_actions=best_actions, num_actions=num_actions, num_steps=num_steps
            )
    raise AssertionError(f"no algorithm has {type(settings).__name__}")


def _discrete(algorithm: str, space: gym.Space[Any]) -> gym.spaces.Discrete:
    if not isinstance(space, gym.spaces.Discrete):
        raise InvalidValue(f"{algorithm}: expected Discrete actions, got {space}. Use --algo ppo.")
    return space


def _guide(template: LearnerSpec, envs: BatchedEnv) -> KnowsBest:
    if not isinstance(envs, KnowsBest):
        raise InvalidValue(
            f"{template.algorithm}: needs an optimal policy, and {template.family} knows none. Use an algorithm that "
            "learns, such as --algo ppo."
        )
    return envs
