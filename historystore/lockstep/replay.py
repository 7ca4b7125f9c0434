"""What DQN learners remember, as Stable-Baselines3's replay buffer does."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int64

from historystore.lockstep.dqn import Transitions
from historystore.lockstep.features import Features
from historystore.lockstep.worlds import Trace


class Replay:
    """The last transitions of every row, in a ring; all rows are at the same place.

    Args:
        features: how observations are seen.
        capacity: steps of each stream that are kept.
        num_learners: how many learners there are.
    """

    def __init__(self, features: Features, *, capacity: int, num_learners: int) -> None:
        self._features, self._capacity, self._num_learners = features, capacity, num_learners
        self._arrays: dict[str, np.ndarray] = {}
        self._num_added = 0

    @property
    def num_steps(self) -> int:
        """Steps of each stream that are remembered."""
        return min(self._num_added, self._capacity)

    def add(self, trace: Trace) -> None:
        """Remember the latest step of a trace, with the observations that truly followed."""
        step = trace.num_steps - 1
        following = trace.views[step + 1]
        if trace.ends and trace.ends[-1].step == step:
            following = following.copy()
            following[trace.ends[-1].rows] = trace.ends[-1].views
        self._put("views", trace.views[step])
        self._put("next_views", following)
        self._put("actions", trace.actions[step])
        self._put("rewards", trace.last_reward.astype(np.float32))
        self._put("terminated", trace.terminated[step].astype(np.float32))
        self._num_added += 1

    def _put(self, name: str, row: np.ndarray) -> None:
        if name not in self._arrays:
            self._arrays[name] = np.zeros((self._capacity, *row.shape), row.dtype)
        self._arrays[name][self._num_added % self._capacity] = row

    def transitions(
        self, steps: Int64[np.ndarray, "learners batch"], streams: Int64[np.ndarray, "learners batch"]
    ) -> Transitions:
        """Return the transitions at these places of each learner's ring."""
        num_streams = self._arrays["actions"].shape[1] // self._num_learners
        rows = streams + num_streams * np.arange(self._num_learners)[:, None]
        found = {name: array[steps, rows] for name, array in self._arrays.items()}  # (L, B, ...)

        def seen(views: np.ndarray) -> torch.Tensor:
            flat = views.reshape(-1, *views.shape[2:])
            return self._features(flat).view(*views.shape[:2], -1)

        return Transitions(
            features=seen(found["views"]),
            actions=torch.from_numpy(found["actions"]),
            rewards=torch.from_numpy(found["rewards"]),
            terminated=torch.from_numpy(found["terminated"]),
            next_features=seen(found["next_views"]),
        )
