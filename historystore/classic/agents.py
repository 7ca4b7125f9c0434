"""The algorithms by the names in specifications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from historystore.classic.agent import Agent
from historystore.classic.draws import learner_generators
from historystore.classic.expert import NoisyExpert
from historystore.classic.guides import OptimalGuide, RecordedGuide
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


def build_agent(specs: Sequence[LearnerSpec], envs: BatchedEnv, *, policies: str | None) -> Agent:
    """Build the learners of some specifications of one template, which act in these environments.

    `policies` is the store of the models that act, where specifications name some.

    Raises:
        InvalidValue: a hyperparameter is out of its range, or the algorithm cannot act in such environments.
    """
    template = specs[0]
    settings, generators = settings_of(template), learner_generators([spec.seed or 0 for spec in specs])
    if isinstance(settings, NoiseSettings | ExpertSettings):
        guide = _optimal(template, envs) if settings.policy_from is None else _recorded(specs, policies)
        space = envs.action_space
        return NoisyExpert(settings, generators, guide=guide, action_space=space, num_steps=template.num_steps)
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
    raise AssertionError(f"no algorithm has {type(settings).__name__}")


def _discrete(algorithm: str, space: gym.Space[Any]) -> gym.spaces.Discrete:
    if not isinstance(space, gym.spaces.Discrete):
        raise InvalidValue(f"{algorithm}: expected Discrete actions, got {space}. Use --algo ppo.")
    return space


def _recorded(specs: Sequence[LearnerSpec], policies: str | None) -> RecordedGuide:
    assert policies is not None, "specifications that name a model come with its store"
    return RecordedGuide.load(policies, [str(spec.hyperparameters["policy_from"]) for spec in specs])


def _optimal(template: LearnerSpec, envs: BatchedEnv) -> OptimalGuide:
    if not isinstance(envs, KnowsBest):
        raise InvalidValue(
            f"{template.algorithm}: needs an optimal policy, and {template.family} knows none. Give a store of trained "
            "models with --set policy_from=STORE, or use an algorithm that learns, such as --algo ppo."
        )
    return OptimalGuide(envs, first_action=int(getattr(envs.action_space, "start", 0)))
