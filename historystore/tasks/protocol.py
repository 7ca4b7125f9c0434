"""What every task family offers, and what its batched environments promise."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped
from pydantic import JsonValue

Task = dict[str, JsonValue]
"""One MDP of a family, as it is written into a learner's specification: the keyword arguments of its environment."""


@runtime_checkable
class BatchedEnv(Protocol):
    """Many environments stepped by one array operation, without auto-reset.

    Arrays handed out are the caller's: they never change afterwards. Where the family knows an optimal policy there is
    one method more, see `KnowsBest`.
    """

    num_envs: int
    tasks: tuple[Task, ...]
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    source_observation_space: gym.Space[Any] | None
    """What the source learner sees in place of the observation; None where it sees the observation itself."""

    def source_observation(self) -> Shaped[np.ndarray, "num_envs *source"]:
        """Return what the source learner sees now, where there is a `source_observation_space`.

        It is recorded as `source_observation`; a distilled agent never sees it.
        """
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that `restore` needs to go on exactly, random generators included, as plain arrays.

        Raises:
            InvalidValue: these environments cannot tell; a learner that is continued in them begins a new episode.
        """
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go back to where `state` was taken from environments of the same tasks."""
        ...

    def reset(
        self, mask: Bool[np.ndarray, " num_envs"] | None = None, *, seeds: Sequence[int | None] | None = None
    ) -> Shaped[np.ndarray, "num_envs *shape"]:
        """Start a new episode where `mask` is set (everywhere without one) and return every current observation.

        `seeds` holds one entry an environment, as Gymnasium's `reset(seed=...)` takes it; a family whose episodes
        draw nothing at random ignores it.
        """
        ...

    def step(
        self, actions: Shaped[np.ndarray, "num_envs *action"]
    ) -> tuple[
        Shaped[np.ndarray, "num_envs *shape"],
        Float[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
    ]:
        """Return the true next observations, rewards, terminated and truncated flags, as the environment gave them."""
        ...


@runtime_checkable
class KnowsBest(Protocol):
    """What a `BatchedEnv` has besides where an optimal policy is known: noise distillation and experts ask for it."""

    def expert_actions(self) -> Int64[np.ndarray, " num_envs"]:
        """Return the action that such a policy takes now in each environment, as `step` takes it; it is Discrete."""
        ...


@runtime_checkable
class Family(Protocol):
    """A set of tasks that share their spaces, and everything known about them without running a learner."""

    @property
    def name(self) -> str:
        """Its name on the command line and in stores."""
        ...

    @property
    def version(self) -> int:
        """Moves when the order in which seeds get tasks, or the environment itself, changes."""
        ...

    @property
    def env_id(self) -> str:
        """The Gymnasium id, made with a task as keyword arguments."""
        ...

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `--env-arg` can change, by name."""
        ...

    @property
    def args(self) -> dict[str, JsonValue]:
        """The arguments that differ from the family's defaults."""
        ...

    @property
    def is_batched(self) -> bool:
        """Whether `make_batched` steps by array operations; else it loops over Gymnasium environments."""
        ...

    @property
    def num_tasks(self) -> int:
        """How many tasks `tasks()` lists; 0 when they are endless and each is drawn from its seed."""
        ...

    @property
    def observation_space(self) -> gym.Space[Any]:
        """The space of one environment's observation."""
        ...

    @property
    def action_space(self) -> gym.Space[Any]:
        """The space of one environment's action."""
        ...

    @property
    def max_episode_steps(self) -> int | None:
        """No episode is longer; None where nobody knows."""
        ...

    def tasks(self) -> list[Task]:
        """List every task, in a fixed order; none where they are endless."""
        ...

    def task_of_seed(self, seed: int) -> Task:
        """Return the task of a learner's seed: any `num_tasks` consecutive seeds cover the family exactly once."""
        ...

    def make(self, task: Mapping[str, JsonValue]) -> gym.Env[Any, Any]:
        """Make one Gymnasium environment."""
        ...

    def make_batched(self, tasks: Sequence[Mapping[str, JsonValue]]) -> BatchedEnv:
        """Make one environment for each entry of `tasks`, stepped together."""
        ...

    def best_return(self, task: Mapping[str, JsonValue]) -> float | None:
        """Return the expected return of one episode under the best policy; None where nobody knows it."""
        ...

    def random_return(self, task: Mapping[str, JsonValue]) -> float | None:
        """Return the expected return of one episode under uniformly random actions; None where nobody knows it."""
        ...

    def draw_episode(
        self,
        task: Mapping[str, JsonValue],
        observations: Shaped[np.ndarray, "time *shape"],
        actions: Shaped[np.ndarray, "time *action"],
        rewards: Shaped[np.ndarray, " time"],
    ) -> str | None:
        """Render one episode as text; None where nobody knows how.

        `observations` are those the actions answered, without the final one.
        """
        ...
