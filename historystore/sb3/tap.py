"""Listening to the environments of a learner, beneath every VecEnv wrapper."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from historystore.errors import InvalidValue
from historystore.sb3.block import Block, Steps
from historystore.sb3.hooks import Hook
from historystore.sb3.sources import Infos, Source


class Tap:
    """Write every step of some environments into a block, as they took and returned it.

    A step is *pending* until the learner's own callback confirms it: what EvalCallback or anybody else does with the
    same environments is not training. Should that happen the tap falls silent, for it no longer knows what the learner
    sees; `confirm()` then says so, which only a training that goes on can hear.
    """

    def __init__(self, env: VecEnv, *, source: Source, observation: Any) -> None:
        self._block = Block(env.observation_space, observation)
        streams, actions = (env.num_envs,), env.action_space
        self._block.make("terminated", dtype=np.bool_, shape=streams)
        self._block.make("truncated", dtype=np.bool_, shape=streams)
        if source.reward_dtype is not None:
            self._block.make("reward", dtype=source.reward_dtype, shape=streams)
        if isinstance(actions, spaces.MultiBinary):  # which Stable-Baselines3 draws as floats
            self._block.make("action", dtype=actions.dtype, shape=streams + actions.shape)
        self._env, self._source = env, source
        self._num_finals = 0
        self._is_pending = False
        self._problem: str | None = None
        self._step_async, self._step_wait, self._reset = env.step_async, env.step_wait, env.reset
        source.attach()
        self._hooks = [Hook(env, name, getattr(self, name)) for name in ("step_async", "step_wait", "reset")]

    @property
    def num_rows(self) -> int:
        """Confirmed steps of each stream that wait to be taken."""
        return self._block.row

    @property
    def is_full(self) -> bool:
        """Whether the block has to be taken before the next step."""
        return self._block.is_full

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions as the environments get them."""
        if self._problem is None:
            if self._is_pending:
                self._problem = "took a step that the training did not report"
            else:
                self._block.put("action", actions)
        self._step_async(actions)

    def step_wait(self) -> Any:
        """Keep what the environments return, before any wrapper changes it in place."""
        result = self._step_wait()
        if self._problem is None:
            self._keep(*result)
        return result

    def reset(self) -> Any:
        """Fall silent: `learn()` resets the environments before it begins, and never again."""
        if self._problem is None:
            self._problem = "were reset by something other than the training"
        return self._reset()

    def _keep(self, obs: Any, rewards: np.ndarray, dones: np.ndarray, infos: Infos) -> None:
        block = self._block
        reward, terminated, truncated = self._source.outcome(rewards, dones, infos)
        block.put("reward", reward)
        block.put("terminated", terminated)
        block.put("truncated", truncated)
        block.put_observation(obs, row=block.row + 1)
        if np.count_nonzero(dones):  # ten times as fast as dones.any()
            for index in np.flatnonzero(dones).tolist():
                self._keep_final(infos[index])
        self._is_pending = True

    def _keep_final(self, info: dict[str, Any]) -> None:
        if "terminal_observation" not in info:
            raise InvalidValue(
                f"{type(self._env).__name__}: an episode ended without infos[i]['terminal_observation'], expected the "
                "last observation of the episode there, as Stable-Baselines3's own VecEnvs give it. Add it."
            )
        self._block.add_final(info["terminal_observation"])

    def put(self, name: str, value: Any) -> None:
        """Write a field of the pending step that only the learner knows."""
        self._block.put(name, value)

    def check(self) -> None:
        """Check that the learner's step is the one that was heard.

        Raises:
            InvalidValue: something else uses the same environments, or the callback misses steps.
        """
        if self._problem is None and self._is_pending:
            return
        raise InvalidValue(
            f"HistoryRecorder: the training environments {self._problem or 'took no step'}, expected one step for each "
            "call of the recorder. Give EvalCallback, or whatever else acts while the learner learns, environments of "
            "its own; pass the recorder to learn() itself or in its list, not inside another callback."
        )

    def confirm(self) -> None:
        """Count the pending step as one of the training's."""
        self._is_pending = False
        self._block.row += 1
        self._num_finals = self._block.num_finals

    def take(self) -> Steps:
        """Return the confirmed steps, and begin a new block."""
        return self._block.take(self._num_finals)

    def remove(self) -> None:
        """Stop listening, and leave the environments as they were."""
        self._problem = self._problem or "are no longer recorded"
        for hook in self._hooks:
            hook.remove()
        self._source.detach()
