"""What the environments themselves returned, before their VecEnv rounds rewards and merges flags.

`DummyVecEnv` casts rewards to float32 and keeps of `terminated` and `truncated` only whether either was set, and
whether it was `truncated` alone. Where the environments live in this process they are listened to one level deeper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from historystore.recording.vec_env import BatchedVecEnv
from historystore.sb3.hooks import Hook
from historystore.sb3.layers import Observation, unwrapped_observation

Infos: TypeAlias = Sequence[dict[str, Any]]
Outcome: TypeAlias = tuple[Any, Any, Any]
"""Rewards, terminated and truncated flags of all streams at one step."""


@runtime_checkable
class Source(Protocol):
    """Where rewards and flags are taken from."""

    reward_dtype: np.dtype[Any] | None
    """A dtype that holds every reward; None where each comes in one."""

    def observation(self) -> Observation:
        """Return what the environments show now."""
        ...

    def attach(self) -> None:
        """Begin to listen."""
        ...

    def outcome(self, rewards: np.ndarray, dones: np.ndarray, infos: Infos) -> Outcome:
        """Return the rewards and flags of the step that the VecEnv has just taken."""
        ...

    def detach(self) -> None:
        """Stop listening."""
        ...


def source_of(env: VecEnv, model: BaseAlgorithm) -> Source:
    """Return the closest source there is for some environments."""
    if isinstance(env, DummyVecEnv):
        return GymSource(env)
    if isinstance(env, BatchedVecEnv):
        return BatchedSource(env)
    return VecSource(model)


class GymSource:
    """Listen to each Gymnasium environment of a `DummyVecEnv`."""

    reward_dtype: np.dtype[Any] | None = np.dtype(np.float64)

    def __init__(self, env: DummyVecEnv) -> None:
        self._env = env
        self._steps: list[Any] = [None] * env.num_envs
        self._hooks: list[Hook] = []

    def attach(self) -> None:
        """Begin to listen."""
        envs = enumerate(self._env.envs)
        self._hooks = [Hook(env, "step", self._listening(index, env.step)) for index, env in envs]

    def _listening(self, index: int, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        steps = self._steps

        def listened(action: Any) -> Any:
            result = step(action)
            steps[index] = result
            return result

        return listened

    def observation(self) -> Observation:
        """Return what the environments show now."""
        return self._env._obs_from_buf()  # type: ignore[return-value]

    def outcome(self, rewards: np.ndarray, dones: np.ndarray, infos: Infos) -> Outcome:
        """Return the rewards and flags of the step that the VecEnv has just taken."""
        if len(self._steps) == 1:
            return self._steps[0][1:4]  # type: ignore[no-any-return]
        _, given, terminated, truncated, _ = zip(*self._steps, strict=True)
        # Some environments return a reward as an array of one number.
        return np.array(given, dtype=np.float64).reshape(len(given)), terminated, truncated

    def detach(self) -> None:
        """Stop listening."""
        for hook in self._hooks:
            hook.remove()


class BatchedSource:
    """Listen to the batched environments of a `BatchedVecEnv`."""

    reward_dtype: np.dtype[Any] | None = None

    def __init__(self, env: BatchedVecEnv) -> None:
        self._envs = env.envs
        self._step: Any = None
        self._hook: Hook | None = None

    def attach(self) -> None:
        """Begin to listen."""
        self._hook = Hook(self._envs, "step", self._listening(self._envs.step))

    def _listening(self, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def listened(actions: Any) -> Any:
            self._step = step(actions)
            return self._step

        return listened

    def observation(self) -> Observation:
        """Return what the environments show now."""
        return self._envs.reset(np.zeros(self._envs.num_envs, dtype=bool))

    def outcome(self, rewards: np.ndarray, dones: np.ndarray, infos: Infos) -> Outcome:
        """Return the rewards and flags of the step that the VecEnv has just taken."""
        _, reward, terminated, truncated = self._step
        return reward, terminated, truncated

    def detach(self) -> None:
        """Stop listening."""
        if self._hook is not None:
            self._hook.remove()


class VecSource:
    """Take what any other VecEnv says: whatever the dtype of its rewards at a step, and never both flags at once.

    A step that is both terminated and truncated reads as terminated, for that is all that Stable-Baselines3's
    convention (`infos[i]["TimeLimit.truncated"]`) can tell.
    """

    reward_dtype: np.dtype[Any] | None = np.dtype(np.float64)

    def __init__(self, model: BaseAlgorithm) -> None:
        self._model = model

    def attach(self) -> None:
        """Begin to listen."""

    def observation(self) -> Observation:
        """Return what the environments show now."""
        return unwrapped_observation(self._model)

    def outcome(self, rewards: np.ndarray, dones: np.ndarray, infos: Infos) -> Outcome:
        """Return the rewards and flags of the step that the VecEnv has just taken."""
        truncated = np.zeros_like(dones)
        for index in np.flatnonzero(dones).tolist():
            truncated[index] = infos[index].get("TimeLimit.truncated", False)
        return rewards, dones & ~truncated, truncated

    def detach(self) -> None:
        """Stop listening."""
