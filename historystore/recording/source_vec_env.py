"""What the source learner sees where its family shows it more than the distilled model (imports stable_baselines3)."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Shaped
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from historystore.recording.vec_env import BatchedVecEnv
from historystore.tasks import BatchedEnv


class SourceVecEnv(VecEnvWrapper):
    """Show a learner the source's view of a `BatchedVecEnv`, at the ends of episodes too.

    Who listens beneath it, as a recorder does, hears the true observations.
    """

    def __init__(self, venv: BatchedVecEnv) -> None:
        super().__init__(venv, observation_space=venv.envs.source_observation_space)
        self._batched, self._envs = venv, venv.envs

    def reset(self) -> Shaped[np.ndarray, "num_envs *source"]:
        """Start an episode everywhere."""
        self.venv.reset()
        return self._envs.source_observation()

    def step_wait(
        self,
    ) -> tuple[
        Shaped[np.ndarray, "num_envs *source"],
        Float32[np.ndarray, " num_envs"],
        Bool[np.ndarray, " num_envs"],
        list[dict[str, Any]],
    ]:
        """Step every environment and reset those that are done."""
        _, rewards, dones, infos = self.venv.step_wait()
        for index in np.flatnonzero(dones).tolist():
            infos[index]["terminal_observation"] = self._batched.terminal_source_observation[index]
        return self._envs.source_observation(), rewards, dones, infos


def source_vec_env(envs: BatchedEnv) -> VecEnv:
    """Return the VecEnv that a source learner acts in: with its own view where the family has one."""
    vec_env = BatchedVecEnv(envs)
    return vec_env if envs.source_observation_space is None else SourceVecEnv(vec_env)
