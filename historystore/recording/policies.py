"""Which of an algorithm's policies reads what a source learner sees."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from historystore.errors import InvalidValue
from historystore.recording.signature import Signature
from historystore.tasks import Family

_SMALLEST_IMAGE = 36
"""Pixels a side that Stable-Baselines3's convolutions need; below, an image is read as a vector."""


def resolve_policy(name: str | None, known: Signature, *, observations: gym.Space[Any]) -> str:
    """Return a policy's name as it was given, or the one that fits the observations.

    Raises:
        InvalidValue: the algorithm has no policy of that name.
    """
    if name is None and len(known.policies) == 1:
        return known.policies[0]
    if name is None:
        kind = _kind(observations)
        return next((policy for policy in known.policies if policy.startswith(kind)), f"{kind}Policy")
    if name not in known.policies:
        raise InvalidValue(
            f"--policy: {known.algorithm} has no policy {name!r}, expected one of {', '.join(known.policies)}. "
            "Check the name."
        )
    return name


def source_space(family: Family) -> gym.Space[Any]:
    """Return the space of what a family's source learners see: their own view where there is one."""
    if not family.is_batched:
        return family.observation_space
    view = family.make_batched([family.task_of_seed(0)]).source_observation_space
    return family.observation_space if view is None else view


def _kind(space: gym.Space[Any]) -> str:
    if isinstance(space, gym.spaces.Dict):
        return "MultiInput"
    return "Cnn" if _is_image(space) else "Mlp"


def _is_image(space: gym.Space[Any]) -> bool:
    """Whether Stable-Baselines3 takes observations for images, large enough for its convolutions."""
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 3 or space.dtype != np.uint8:
        return False
    is_full_range = bool(np.all(space.low == 0) and np.all(space.high == 255))
    *_, smallest_side, _largest = sorted(space.shape)
    return is_full_range and smallest_side >= _SMALLEST_IMAGE and min(space.shape) in (1, 3, 4)
