"""A trained agent in many environments at once: the growing context and its cache.

N is the number of environments, c the context length.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.vector.utils import create_empty_array
from jaxtyping import Bool, Float, Int
from torch import Tensor

from historystore.fields import flatten

from .model import Cache, DistilledAgent
from .tokens import Tokens, window_tokens


class Context:
    """The last transitions of N environments that step together, and the agent's logits for the next action.

    At most c transitions are kept, each as its encoded observation, its action and its reward. One transition at a time
    is appended to the cache; when the context is full, its oldest eighth is dropped (or a bit more, so that it begins
    with an episode, where all environments begin one together) and the cache is rebuilt from the rest in one pass. So
    the logits are always those of the whole present context (`tests/test_distill_context.py`): a cache whose oldest
    entries were only masked out would go on carrying what had been forgotten.
    """

    def __init__(self, agent: DistilledAgent, *, num_envs: int) -> None:
        context, device = agent.context_length, agent.device
        self.agent, self.device, self.length = agent, device, 0
        encoded = self._encoded(create_empty_array(agent.observation_space, 1))
        self.observation = encoded.new_zeros((num_envs, context, *encoded.shape[1:]))  # (N, c, *encoded)
        self.action = torch.zeros((num_envs, context, *agent.actions.shape), dtype=torch.int64, device=device)
        self.reward = torch.zeros((num_envs, context), device=device)
        self.episode_start = torch.zeros((num_envs, context), dtype=torch.bool, device=device)
        self.cache = Cache(agent.config, batch_size=num_envs, context_length=context, device=device)

    def tokens(self) -> Tokens:
        """Return the whole present context as tokens."""
        return window_tokens(
            observation=self.observation[:, : self.length],
            action=self.action[:, : self.length],
            reward=self.reward[:, : self.length],
            episode_start=self.episode_start[:, : self.length],
        )

    def logits(self, observation: Any, episode_start: Bool[np.ndarray, envs]) -> Float[Tensor, "envs values"]:
        """Take in the present observations and return the logits of the actions that answer them.

        Observations come as a batch of their space: an array, for a Dict a dict of arrays. What the context keeps of
        each is encoded here, once.
        """
        if self.length == self.agent.context_length:
            self._drop_oldest()
        self.observation[:, self.length] = self._encoded(observation)
        self.episode_start[:, self.length] = torch.from_numpy(episode_start).to(self.device)
        self.length += 1
        num_cached = self.cache.length // self.agent.config.tokens_per_transition
        logits: Tensor = self.agent(self.tokens().last(self.length - num_cached), self.cache)
        return logits[:, -1]

    def _encoded(self, observation: Any) -> Tensor:
        """Return a batch of observations as tokens hold them, (N, *encoded)."""
        columns = flatten("observation", self.agent.observation_space, observation)
        tensors = {name: torch.from_numpy(column).to(self.device)[:, None] for name, column in columns.items()}
        with torch.inference_mode():
            return self.agent.encode(tensors)[:, 0]  # (N, 1, *encoded) -> (N, *encoded)

    def complete(self, action: Int[Tensor, "envs ..."], reward: Float[np.ndarray, envs]) -> None:
        """Complete the present transition with the action taken and the reward it earned."""
        self.action[:, self.length - 1] = action
        self.reward[:, self.length - 1] = torch.from_numpy(reward).to(self.device)

    def _drop_oldest(self) -> None:
        """Make room, and forget every key and value: they carry what is dropped."""
        least, most = max(1, self.length // 8), self.length // 2
        starts = self.episode_start[:, least : most + 1].all(dim=0).nonzero()
        num_dropped = least + (int(starts[0, 0]) if len(starts) else 0)
        for history in (self.observation, self.action, self.reward, self.episode_start):
            history.copy_(history.roll(-num_dropped, dims=1))
        self.length -= num_dropped
        self.cache.length = 0
