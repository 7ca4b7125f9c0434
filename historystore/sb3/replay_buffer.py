"""What a replay buffer holds, without the rows that nothing was written to, and filling a fresh one with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from historystore.errors import InvalidValue

Contents: TypeAlias = dict[str, Any]
"""Attribute -> a number, or its arrays by key; one that is a single array has the key ``""``."""


def contents(model: BaseAlgorithm) -> Contents | None:
    """Return what an algorithm's replay buffer holds, as views of it; None where there is none.

    Raises:
        InvalidValue: part of it are objects, which cannot be written without pickle.
    """
    buffer = getattr(model, "replay_buffer", None)
    if buffer is None:
        return None
    found: Contents = {}
    for name, value in vars(buffer).items():
        arrays = value if isinstance(value, dict) and value else {"": value}
        if isinstance(value, (bool, int)):
            found[name] = value
        elif all(isinstance(array, np.ndarray) for array in arrays.values()):
            if any(array.dtype.kind not in "biuf" for array in arrays.values()):
                raise InvalidValue(
                    f"checkpoints: {type(buffer).__name__} keeps objects in {name}, which cannot be written without "
                    "pickle, expected numbers. Use another replay buffer, or 'final' for the parameters alone."
                )
            found[name] = {key: _rows(array, buffer.size(), of=buffer.buffer_size) for key, array in arrays.items()}
    return found


def refill(model: BaseAlgorithm, found: Mapping[str, Any] | None) -> None:
    """Put contents into an algorithm's fresh replay buffer, whose other rows are as they were."""
    buffer = getattr(model, "replay_buffer", None)
    for name, value in (found or {}).items():
        if not isinstance(value, dict):
            setattr(buffer, name, value)
            continue
        own = getattr(buffer, name)
        for key, array in value.items():
            place = own[key] if key else own
            place[: len(array)] = array


def _rows(array: np.ndarray, num_rows: int, *, of: int) -> np.ndarray:
    return array[:num_rows] if array.ndim and len(array) == of else array
