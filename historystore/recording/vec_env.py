"""Stable-Baselines3's VecEnv over a batched environment (imports stable_baselines3)."""

from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float32, Shaped
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from historystore.tasks import BatchedEnv


class BatchedVecEnv(VecEnv):
    """Let a Stable-Baselines3 learner act in a `BatchedEnv`.

    It behaves as `DummyVecEnv` does over the same environments, step by step
    (`tests/test_tasks_vec_env.py`): an environment that is done is reset at once, its true next observation is in
    `infos[i]["terminal_observation"]`, and `infos[i]["TimeLimit.truncated"]` tells a cut from an end. There is no
    object for one environment, so methods cannot be called and attributes cannot be set; the keys of its task can be
    read (`get_attr("goal")`).

    The learner sees the true observations here, whatever view its family has for it: `SourceVecEnv` around this one
    shows the view.
    """

    def __init__(self, envs: BatchedEnv) -> None:
        self.envs = envs
        self._actions = np.zeros(0)
        self.terminal_source_observation = np.zeros(0)
        """What the source saw when episodes last ended, before the resets; rows of the others are of no meaning."""
        super().__init__(envs.num_envs, envs.observation_space, envs.action_space)

    def reset(self) -> Shaped[np.ndarray, "num_envs *shape"]:
        """Start an episode everywhere, with the seeds of the last `seed()` (used once)."""
        obs = self.envs.reset(seeds=self._seeds)
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: Shaped[np.ndarray, "num_envs *action"]) -> None:
        """Keep the actions for `step_wait()`."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[
        Shaped[np.ndarray, "num_envs *shape"],
        Float32[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
        list[dict[str, Any]],
    ]:
        """Step every environment and reset those that are done."""
        obs, rewards, terminated, truncated = self.envs.step(self._actions)
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": cut} for cut in (truncated & ~terminated).tolist()]
        if dones.any():
            for index in np.flatnonzero(dones).tolist():
                infos[index]["terminal_observation"] = obs[index]
            if self.envs.source_observation_space is not None:
                self.terminal_source_observation = self.envs.source_observation()
            obs = self.envs.reset(dones)
        return obs, rewards.astype(np.float32, copy=False), dones, infos

    def close(self) -> None:
        """Do nothing: arrays need no closing."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return `render_mode` (None) or a key of each environment's task.

        Raises:
            AttributeError: it is neither.
        """
        if attr_name == "render_mode":
            return [None for _ in self._get_indices(indices)]
        tasks = [self.envs.tasks[index] for index in self._get_indices(indices)]
        if not all(attr_name in task for task in tasks):
            raise AttributeError(f"batched environments have no attribute {attr_name!r}")
        return [task[attr_name] for task in tasks]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Refuse: there is no object for one environment."""
        raise AttributeError(f"batched environments cannot set an attribute, got {attr_name!r}")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> Any:
        """Refuse: there is no object for one environment."""
        raise AttributeError(f"batched environments have no method {method_name!r}")

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Return False for each environment: none has a wrapper."""
        wanted: Iterable[int] = self._get_indices(indices)
        return [False for _ in wanted]
