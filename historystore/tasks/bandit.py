"""Adversarial Bandit: ten arms that pay 0 or 1, and which arms tend to pay more differs from training to test.

Laskin et al., "In-context Reinforcement Learning with Algorithm Distillation" (arXiv 2210.14215), section 4.1 and its
usual reading. In 95 % of the bandits of the distribution `odd` the arms 1, 3, 5, ... (counted from 0) pay with chances
drawn from U[0.5, 1] and the others with chances from U[0, 0.5]; in 5 % it is the other way round. `even` is the mirror,
`uniform` draws every chance from U[0, 1]. An episode is 100 pulls of one bandit's arms, which stay as they are from
episode to episode; the paper's histories are one episode each, by a learner that starts anew (`--steps 100`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, Shaped
from pydantic import JsonValue

from historystore.errors import InvalidValue
from historystore.tasks.arguments import check_counts
from historystore.tasks.generators import Generators
from historystore.tasks.protocol import Task
from historystore.tasks.uniforms import uniforms

DISTRIBUTIONS = ("odd", "even", "uniform")
USUAL_SHARE = 0.95
"""The share of bandits whose favoured arms are those that the distribution is named after."""
DIGITS = 4
"""Chances are rounded, so that a task can be read and typed; a hundred pulls cannot tell."""
MOST_ARMS = 1000
DRAWN_PULLS = 50
"""Pulls in one line of a drawing."""


def parse_means(means: object) -> tuple[float, ...]:
    """Return each arm's chance to pay.

    Raises:
        InvalidValue: they are not two or more numbers from 0 to 1.
    """
    given = tuple(means) if isinstance(means, (list, tuple, np.ndarray)) else ()
    is_number = all(isinstance(p, (int, float, np.number)) and not isinstance(p, bool) for p in given)
    if len(given) < 2 or not is_number or not all(0 <= p <= 1 for p in given):
        raise InvalidValue(f"means: expected two or more numbers from 0 to 1, got {means!r}. Give one for each arm.")
    return tuple(float(p) for p in given)


def _luck(generator: np.random.Generator) -> np.random.Generator:
    """Return the generator of an episode's luck: a twin draws all of it at once, wherever the episode may end."""
    return np.random.Generator(np.random.PCG64(int(generator.integers(2**63))))


class AdversarialBandit(gym.Env[np.int64, np.int64]):
    """Pull arms that pay 1 with a chance of their own, else 0.

    There is nothing to see: the one observation is 0. It never terminates, and only Gymnasium's TimeLimit (part of
    `gymnasium.make`) truncates it.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - an instance variable to gym.Env's type

    def __init__(self, means: Sequence[float], *, render_mode: str | None = None) -> None:
        self.means = parse_means(means)
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Discrete(1)
        self.action_space = gym.spaces.Discrete(len(self.means))
        self._luck = np.random.default_rng()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Begin an episode on the same arms."""
        super().reset(seed=seed, options=options)
        self._luck = _luck(self.np_random)
        return np.int64(0), {}

    def step(self, action: np.int64 | int) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Pull an arm."""
        return np.int64(0), float(self._luck.random() < self.means[action]), False, False, {}


class BatchedBandit:
    """Many bandits of as many arms each, stepped by one array operation."""

    def __init__(self, means: Sequence[Sequence[float]], *, arms: int, max_episode_steps: int) -> None:
        self.num_envs = len(means)
        self.tasks: tuple[Task, ...] = tuple({"means": [*one]} for one in means)
        self.observation_space: gym.Space[Any] = gym.spaces.Discrete(1)
        self.action_space: gym.Space[Any] = gym.spaces.Discrete(arms)
        self.source_observation_space: gym.Space[Any] | None = None
        self._max_episode_steps = max_episode_steps
        self._means = np.array(means, dtype=np.float64).reshape(self.num_envs, arms)
        self._rows = np.arange(self.num_envs)
        self._generators = Generators(self.num_envs)
        self._luck = np.zeros((self.num_envs, max_episode_steps))
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)

    def source_observation(self) -> Int64[np.ndarray, " num_envs"]:
        """Return the observation: the source sees no more."""
        return np.zeros(self.num_envs, dtype=np.int64)

    def expert_actions(self) -> Int64[np.ndarray, " num_envs"]:
        """Return the best arm of each."""
        best: Int64[np.ndarray, " num_envs"] = self._means.argmax(axis=1)
        return best

    def state(self) -> dict[str, np.ndarray]:
        """Return where every episode is, with the luck that it has left."""
        return {
            "luck": self._luck.copy(),
            "elapsed": self._elapsed.copy(),
            "generators": self._generators.state(),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to a state."""
        self._luck = state["luck"].astype(np.float64)
        self._elapsed = state["elapsed"].astype(np.int64)
        self._generators.restore(state["generators"])

    def reset(
        self, mask: Bool[np.ndarray, " num_envs"] | None = None, *, seeds: Sequence[int | None] | None = None
    ) -> Int64[np.ndarray, " num_envs"]:
        """Begin episodes of `mask` (all without one) on the same arms, with new luck."""
        for index, generator in self._generators.of_reset(mask, seeds):
            self._luck[index] = _luck(generator).random(self._max_episode_steps)
            self._elapsed[index] = 0
        return np.zeros(self.num_envs, dtype=np.int64)

    def step(
        self, actions: Int[np.ndarray, " num_envs"]
    ) -> tuple[
        Int64[np.ndarray, " num_envs"],
        Float32[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
    ]:
        """Pull one arm of each; those with `max_episode_steps` pulls are truncated, nobody is terminated."""
        is_paid = self._luck[self._rows, self._elapsed] < self._means[self._rows, actions]
        self._elapsed += 1
        truncated = self._elapsed >= self._max_episode_steps
        nobody = np.zeros(self.num_envs, dtype=bool)
        return np.zeros(self.num_envs, dtype=np.int64), is_paid.astype(np.float32), nobody, truncated


@dataclass(frozen=True, slots=True, kw_only=True)
class BanditFamily:
    """One set of arms a task; there is no end of them, and a seed draws one."""

    arguments: ClassVar[tuple[str, ...]] = ("arms", "max_episode_steps", "distribution")
    is_batched: ClassVar[bool] = True
    num_tasks: ClassVar[int] = 0

    name: str = "bandit"
    version: int = 1
    env_id: str = "historystore/AdversarialBandit-v0"
    arms: int = 10
    max_episode_steps: int = 100
    distribution: str = "odd"
    args: dict[str, JsonValue] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not 2 <= self.arms <= MOST_ARMS:
            raise InvalidValue(f"--env-arg arms: expected 2 to {MOST_ARMS}, got {self.arms}. Change the value.")
        check_counts(self, "max_episode_steps")
        if self.distribution not in DISTRIBUTIONS:
            known = ", ".join(DISTRIBUTIONS)
            raise InvalidValue(
                f"--env-arg distribution: expected one of {known}, got {self.distribution!r}. Change the value."
            )

    @property
    def observation_space(self) -> gym.spaces.Discrete:
        """Nothing to see."""
        return gym.spaces.Discrete(1)

    @property
    def action_space(self) -> gym.spaces.Discrete:
        """The arms."""
        return gym.spaces.Discrete(self.arms)

    def tasks(self) -> list[Task]:
        """List none: there is no end of them."""
        return []

    def task_of_seed(self, seed: int) -> Task:
        """Return the bandit that a seed draws; other arguments and distributions draw others."""
        key = f"{self.name}/{self.version}/{self.distribution}/{self.arms}/{seed}"
        is_usual, *chances = uniforms(key, num=1 + self.arms)
        if self.distribution == "uniform":
            return {"means": [round(chance, DIGITS) for chance in chances]}
        favoured = int((self.distribution == "odd") == (is_usual < USUAL_SHARE))  # 1: the odd arms
        return {
            "means": [round((chance + (arm % 2 == favoured)) / 2, DIGITS) for arm, chance in enumerate(chances)],
        }

    def make(self, task: Mapping[str, JsonValue]) -> gym.Env[Any, Any]:
        """Make the registered environment."""
        return gym.make(self.env_id, means=self._means(task), max_episode_steps=self.max_episode_steps)

    def make_batched(self, tasks: Sequence[Mapping[str, JsonValue]]) -> BatchedBandit:
        """Make one bandit for each entry of `tasks`, stepped together."""
        means = [self._means(task) for task in tasks]
        return BatchedBandit(means, arms=self.arms, max_episode_steps=self.max_episode_steps)

    def best_return(self, task: Mapping[str, JsonValue]) -> float:
        """Return what the best arm is expected to pay in an episode."""
        return self.max_episode_steps * max(_parsed(task))

    def random_return(self, task: Mapping[str, JsonValue]) -> float:
        """Return what arms chosen uniformly at random are expected to pay in an episode."""
        means = _parsed(task)
        return self.max_episode_steps * sum(means) / len(means)

    def draw_episode(
        self,
        task: Mapping[str, JsonValue],
        observations: Int[np.ndarray, " time"],
        actions: Int[np.ndarray, " time"],
        rewards: Shaped[np.ndarray, " time"],
    ) -> str:
        """Render one episode: a row an arm, a column a pull, `+` where it paid and `-` where it did not."""
        signs = np.where(rewards > 0, "+", "-")
        blocks = []
        for start in range(0, len(actions), DRAWN_PULLS):
            part = slice(start, start + DRAWN_PULLS)
            rows = [f"arm  mean  pulls {start} to {min(part.stop, len(actions)) - 1}"]
            for arm, mean in enumerate(_parsed(task)):
                marks = "".join(np.where(actions[part] == arm, signs[part], "·").tolist())
                rows.append(f"{arm:>3}  {mean:.2f}  {marks}")
            blocks.append("\n".join(rows))
        return "\n\n".join(blocks) or "(an episode without a step)"

    def _means(self, task: Mapping[str, JsonValue]) -> tuple[float, ...]:
        means = _parsed(task)
        if len(means) != self.arms:
            raise InvalidValue(f"means: expected {self.arms} arms, got {len(means)}. Set --env-arg arms={len(means)}.")
        return means


def _parsed(task: Mapping[str, JsonValue]) -> tuple[float, ...]:
    if set(task) != {"means"}:
        raise InvalidValue(f"task: expected one key, 'means', got {sorted(task)}. Give {{'means': [...]}}.")
    return parse_means(task["means"])


FAMILY = BanditFamily()
