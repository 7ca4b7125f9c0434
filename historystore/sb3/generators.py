"""The random generators that a Stable-Baselines3 learner draws from: where they stand, and putting them back there."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm


def generators(model: BaseAlgorithm) -> dict[str, Any]:
    """Return the states of all of them: of torch, NumPy and Python as a whole, and of the action space."""
    version, words, gauss = random.getstate()
    return {
        "torch": th.get_rng_state(),
        "cuda": th.cuda.get_rng_state(model.device) if model.device.type == "cuda" else None,
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002 - the global one is what Stable-Baselines3 uses
        "python": {"version": version, "words": np.array(words, np.uint32), "gauss": gauss},
        "action_space": [_state_of(space) for space in _parts(model.action_space)],
    }


def set_generators(model: BaseAlgorithm, states: dict[str, Any]) -> None:
    """Put all of them back to where they stood."""
    th.set_rng_state(states["torch"])
    if states["cuda"] is not None and model.device.type == "cuda":
        th.cuda.set_rng_state(states["cuda"], model.device)
    np.random.set_state(states["numpy"])  # noqa: NPY002
    python = states["python"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    for space, state in zip(_parts(model.action_space), states["action_space"], strict=True):
        if state is not None:
            space.np_random.bit_generator.state = state


def _parts(space: spaces.Space[Any]) -> list[spaces.Space[Any]]:
    """Return a space and those that it is made of, each of which has a generator of its own."""
    members = getattr(space, "spaces", ())
    members = members.values() if isinstance(members, dict) else members
    return [space, *(part for member in members for part in _parts(member))]


def _state_of(space: spaces.Space[Any]) -> Any:
    """Return where a space's generator stands; None where it has none yet, for asking would make one."""
    generator = space._np_random
    return None if generator is None else generator.bit_generator.state
