"""The environments of learners in lockstep: stepped together, reset where an episode ends, with everything kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Int64, Num, Shaped

from historystore.tasks import BatchedEnv


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The episodes that ended at one step: which rows, and what followed."""

    step: int
    rows: Int64[np.ndarray, " ends"]
    observations: Shaped[np.ndarray, ends * shape]
    views: Shaped[np.ndarray, ends * view]
    """What the learner would have seen next."""


class Worlds:
    """A batched environment whose rows are learners x streams."""

    def __init__(self, envs: BatchedEnv, *, seeds: list[int | None]) -> None:
        self._envs = envs
        self.view_space: gym.Space[Any] = envs.source_observation_space or envs.observation_space
        """The space of what the learners see."""
        self.has_source_view = envs.source_observation_space is not None
        self.observation = envs.reset(seeds=seeds)
        """What every row shows."""
        self.view = self._view()
        """What every row's learner sees."""

    @property
    def num_rows(self) -> int:
        """Learners x streams."""
        return self._envs.num_envs

    def step(self, actions: Shaped[np.ndarray, rows * action], *, step: int) -> tuple[Outcome, Ends | None]:
        """Step every row, and begin the next episode where one ended."""
        observation, reward, terminated, truncated = self._envs.step(actions)
        outcome = Outcome(reward=reward, terminated=terminated, truncated=truncated)
        self.observation, ends = observation, None
        dones = terminated | truncated
        if dones.any():
            rows = np.flatnonzero(dones)
            ends = Ends(step=step, rows=rows, observations=observation[rows], views=self._view()[rows])
            self.observation = self._envs.reset(dones)
        self.view = self._view()
        return outcome, ends

    def _view(self) -> Shaped[np.ndarray, rows * view]:
        return self._envs.source_observation() if self.has_source_view else self.observation


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the environments gave for one step."""

    reward: Num[np.ndarray, " rows"]
    terminated: Bool[np.ndarray, " rows"]
    truncated: Bool[np.ndarray, " rows"]


class Trace:
    """What all rows live in a stretch of steps, time first."""

    def __init__(self, worlds: Worlds, *, num_steps: int) -> None:
        def array(first: np.ndarray, length: int) -> np.ndarray:
            return np.empty((length, *first.shape), first.dtype)

        self.length = num_steps
        """Steps that have room."""
        self.observations = array(worlds.observation, num_steps + 1)
        """Those that the actions answered, and behind them what the rows show at the end."""
        self.has_source_view = worlds.has_source_view
        self.views = array(worlds.view, num_steps + 1) if worlds.has_source_view else self.observations
        """What the learners saw, likewise."""
        self.actions = np.empty((num_steps, worlds.num_rows), np.int64)
        self.terminated = np.empty((num_steps, worlds.num_rows), bool)
        self.truncated = np.empty((num_steps, worlds.num_rows), bool)
        self._rewards: list[np.ndarray] = []
        self.ends: list[Ends] = []
        self.fields: dict[str, np.ndarray] = {}
        """Further step fields, (time, rows)."""
        self._see(worlds, 0)

    @property
    def rewards(self) -> Num[np.ndarray, "time rows"]:
        """The rewards, as the environments gave them."""
        return np.stack(self._rewards)

    @property
    def last_reward(self) -> Num[np.ndarray, " rows"]:
        """The rewards of the latest step."""
        return self._rewards[-1]

    @property
    def num_steps(self) -> int:
        """Steps so far."""
        return len(self._rewards)

    def live(self, worlds: Worlds, actions: Int64[np.ndarray, " rows"]) -> None:
        """Do one step."""
        step = self.num_steps
        self.actions[step] = actions
        outcome, ends = worlds.step(actions, step=step)
        self._rewards.append(outcome.reward)
        self.terminated[step], self.truncated[step] = outcome.terminated, outcome.truncated
        if ends is not None:
            self.ends.append(ends)
        self._see(worlds, step + 1)

    def _see(self, worlds: Worlds, step: int) -> None:
        self.observations[step] = worlds.observation
        if self.has_source_view:
            self.views[step] = worlds.view
