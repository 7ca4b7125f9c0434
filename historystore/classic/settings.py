"""The hyperparameters of each algorithm, and their defaults."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, ValidationError

from historystore.documents import LearnerSpec
from historystore.errors import InvalidValue

ENGINE = "classic"

Share = Annotated[float, Ge(0), Le(1)]
Positive = Annotated[float, Gt(0)]
Shape = Literal["linear", "cosine"]


class Settings(BaseModel):
    """What every algorithm has."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    policies: ClassVar[tuple[str, ...]]
    """What `--policy` may be, the default first."""


class LearningSettings(Settings):
    """Of those whose behaviour changes."""

    update_interval: Annotated[int, Ge(1)] = 100
    """Steps from one row of the updates table to the next; epsilon holds still in between."""


class UcbSettings(LearningSettings):
    """Of `UCB`."""

    policies: ClassVar[tuple[str, ...]] = ("ArmTable",)

    coefficient: Annotated[float, Ge(0)] = 1.0
    """How much an arm's uncertainty is worth: `mean + coefficient * sqrt(2 ln t / pulls)` (1 is UCB1)."""


class ThompsonSettings(LearningSettings):
    """Of `ThompsonSampling`."""

    policies: ClassVar[tuple[str, ...]] = ("ArmTable",)

    prior_successes: Positive = 1.0
    prior_failures: Positive = 1.0
    """The Beta distribution of an arm's mean before it is pulled; (1, 1) is the uniform one."""


class NoisySettings(LearningSettings):
    """Of those that act at random in a share epsilon of their steps, which falls as the history goes on."""

    epsilon_start: Share = 1.0
    epsilon_final: Share = 0.0
    anneal_share: Positive = 1.0
    """The part of the history over which epsilon falls; above 1, the history ends before epsilon is at its end."""
    schedule: Shape = "linear"


class QLearningSettings(NoisySettings):
    """Of `QLearning`."""

    policies: ClassVar[tuple[str, ...]] = ("QTable",)

    learning_rate: Annotated[float, Gt(0), Le(1)] = 0.3
    gamma: Share = 0.9
    initial_value: float = 0.0
    """Of every action in every state; above what can be earned, it makes the learner try everything."""
    initial_noise: Annotated[float, Ge(0)] = 0.001
    """The spread of initial values, which breaks ties: each learner prefers other actions where it knows nothing."""
    epsilon_final: Share = 0.02


class GuidedSettings(Settings):
    """Of those that show what a policy does: the family's optimal one, or a trained one."""

    policy_from: str | None = None
    """For `hist record`, a store with trained models; in specifications the name of the checkpoint that acts. None, in
    specifications left out, for the optimal policy."""


class NoiseSettings(NoisySettings, GuidedSettings):
    """Of `NoiseDistillation`."""

    policies: ClassVar[tuple[str, ...]] = ("Optimal",)

    must_find: bool = False
    """Whether a learner acts at random alone until its first reward, so that nothing it does says where the goal is
    before its own history has shown it; epsilon falls meanwhile, and counts from there on."""


class ExpertSettings(GuidedSettings):
    """Of `Expert`."""

    policies: ClassVar[tuple[str, ...]] = ("Optimal",)

    epsilon: Share = 0.0
    """The share of steps with a random action."""


SETTINGS: dict[str, type[Settings]] = {
    "Expert": ExpertSettings,
    "NoiseDistillation": NoiseSettings,
    "QLearning": QLearningSettings,
    "ThompsonSampling": ThompsonSettings,
    "UCB": UcbSettings,
}
"""By the names in specifications."""


def settings_of(spec: LearnerSpec) -> Settings:
    """Return a specification's hyperparameters, what it leaves out at its default.

    Raises:
        InvalidValue: one is unknown, or out of its range.
    """
    given = {name: value for name, value in spec.hyperparameters.items() if name != "engine"}
    try:
        return SETTINGS[spec.algorithm].model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].replace("Input should be", "expected").replace("'", "")
        raise InvalidValue(f"--set {first['loc'][0]}: {reason}, got {first['input']!r}. Change the value.") from None
