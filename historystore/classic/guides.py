"""Whom noise distillation and experts follow: an optimal policy, or trained models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from historystore.tasks.protocol import KnowsBest

if TYPE_CHECKING:
    from stable_baselines3.common.policies import BasePolicy


@runtime_checkable
class Guide(Protocol):
    """Knows what to do; actions count from 0."""

    @property
    def num_bytes(self) -> int:
        """What it holds in memory."""
        ...

    def actions(
        self, seen: Shaped[np.ndarray, "learners ..."] | dict[str, np.ndarray], is_first: Bool[np.ndarray, " learners"]
    ) -> Shaped[np.ndarray, "learners ..."]:
        """Return what it would do where everybody is; `is_first` says whose episode has just begun."""
        ...


class OptimalGuide:
    """Follows the optimal policy that environments know."""

    num_bytes = 0

    def __init__(self, envs: KnowsBest, *, first_action: int) -> None:
        self._envs = envs
        self._first_action = first_action

    def actions(self, seen: Any, is_first: Bool[np.ndarray, " learners"]) -> Int64[np.ndarray, " learners"]:
        """Ask the environments."""
        return self._envs.expert_actions() - self._first_action


class RecordedGuide:
    """Follows trained models, one for each learner, in what they would do without chance.

    Each learner's model is asked by itself. A batch would be faster, but the last bits of a row depend on the others in
    it, and a learner has to be the same whoever it learns with (`tests/test_classic_recorded.py`).
    """

    def __init__(self, policies: Sequence[BasePolicy]) -> None:
        self._policies = policies
        self._states: list[tuple[np.ndarray, ...] | None] = [None] * len(policies)

    @classmethod
    def load(cls, place: str, names: Sequence[str]) -> RecordedGuide:
        """Load checkpoints of the store at a place, one for each learner (imports torch).

        Raises:
            StoreNotFound: the store or a checkpoint is not there.
            DamagedData: a checkpoint does not hold what was written to it.
        """
        from historystore.sb3.checkpoint import load_checkpoint
        from historystore.store import open as open_store

        store = open_store(place)
        room = {"buffer_size": 1}  # off-policy models would make their whole replay buffer
        policies = {name: load_checkpoint(store, name, attributes=room).policy for name in dict.fromkeys(names)}
        return cls([policies[name] for name in names])

    @property
    def num_bytes(self) -> int:
        """What the parameters take in memory."""
        distinct = {id(policy): policy for policy in self._policies}
        return sum(tensor.nbytes for policy in distinct.values() for tensor in policy.parameters())

    def actions(self, seen: Any, is_first: Bool[np.ndarray, " learners"]) -> Shaped[np.ndarray, "learners ..."]:
        """Ask each learner's model; recurrent ones are told where an episode begins."""
        chosen = []
        for learner, policy in enumerate(self._policies):
            row = slice(learner, learner + 1)
            view = {key: values[row] for key, values in seen.items()} if isinstance(seen, dict) else seen[row]
            action, self._states[learner] = policy.predict(
                view, state=self._states[learner], episode_start=is_first[row], deterministic=True
            )
            chosen.append(action)
        return np.concatenate(chosen)  # (learners, *action)
