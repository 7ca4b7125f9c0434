"""Blocks of steps as callers hand them in: checked, and laid out by stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from historystore.errors import InvalidValue
from historystore.fields import FLAG_FIELDS, REQUIRED_FIELDS, STEP_FIELDS, Field, field_of

WHERE = "add_steps"


def block_fields(
    steps: Mapping[str, np.ndarray], spaces: Mapping[str, Field], *, num_streams: int
) -> tuple[Field, ...]:
    """Return the fields that a learner's first block defines, in the order of the table of fields.

    A field of a space has the space's dtype, unless the environment gave floats that this dtype cannot hold; flags are
    flags; a reward of integers is read as float64; all else is as given.

    Raises:
        InvalidValue: a field is missing or unknown, or a shape is not the space's.
    """
    problems = [f"{name} is missing" for name in (*spaces, *REQUIRED_FIELDS[2:]) if name not in steps]
    roots = list(STEP_FIELDS)
    problems += [
        f"{name} is no field, expected one of {', '.join(roots)}" for name in steps if _root(name) not in roots
    ]
    problems += [f"{name} is no part of the store's spaces" for name in steps if _is_stray(name, spaces)]
    problems += [f"{name} lies within {other}" for name in steps for other in steps if name.startswith(f"{other}/")]
    problems += [
        f"{name} has shape {np.shape(array)}, expected (steps, {num_streams}, ...)"
        for name, array in steps.items()
        if np.ndim(array) < 2 or np.shape(array)[1] != num_streams
    ]
    raise_problems(problems)
    names = sorted(steps, key=lambda name: (roots.index(_root(name)), name))
    return tuple(_field(name, np.asarray(steps[name]), spaces.get(name)) for name in names)


def by_stream(steps: Mapping[str, np.ndarray], fields: tuple[Field, ...], *, num_streams: int) -> dict[str, np.ndarray]:
    """Return a block (steps, streams, ...) as copies (streams, steps, ...) in logical dtypes.

    Raises:
        InvalidValue: a field, shape or dtype is not that of the learner's first block.
    """
    names = {field.name for field in fields}
    problems = [f"{name} was not in the learner's first block" for name in steps if name not in names]
    problems += [f"{name} is missing" for name in names if name not in steps]
    raise_problems(problems)
    time = len(steps["reward"])
    for field in fields:
        problems += row_problems(field, steps[field.name], (time, num_streams))
    raise_problems(problems)
    return {
        field.name: np.array(np.swapaxes(np.asarray(steps[field.name]), 0, 1), field.dtype, order="C")
        for field in fields
    }


def row_problems(field: Field, array: np.ndarray, leading: tuple[int, ...]) -> list[str]:
    """Return what is wrong with values of a field, whose shape is to be `leading` and the field's."""
    array, dtype = np.asarray(array), np.dtype(field.dtype)
    if array.shape != (*leading, *field.shape):
        return [f"{field.name} has shape {array.shape}, expected {(*leading, *field.shape)}"]
    if field.is_packed:
        return [] if _are_bytes(array) else [f"{field.name} has values that are not bytes; flatten() packs them"]
    if np.can_cast(array.dtype, dtype, "safe") or dtype.kind == "b" or _holds(dtype, array):
        return []
    return [f"{field.name} has dtype {array.dtype} and values that {dtype} cannot hold"]


def raise_problems(problems: list[str]) -> None:
    """Raise all problems at once, if there are any."""
    if problems:
        raise InvalidValue(
            f"{WHERE}: {'; '.join(problems)}. Give every field of each step, as the environment gave it."
        )


def _field(name: str, array: np.ndarray, space: Field | None) -> Field:
    shape = array.shape[2:]
    if space is not None and space.is_packed:
        return space
    if space is not None:
        if array.shape[2:] != space.shape:
            raise_problems([f"{name} has shape {shape} a step, the space has {space.shape}"])
        return space if _is_of_kind(array.dtype, np.dtype(space.dtype)) else field_of(name, array, shape=shape)
    if name in (*FLAG_FIELDS, "reward") and shape:
        raise_problems([f"{name} has shape {shape} a step, expected one value"])
    if name in FLAG_FIELDS:
        return field_of(name, np.zeros(0, bool), shape=())
    if name == "reward" and array.dtype.kind in "biu":
        return field_of(name, np.zeros(0, np.float64), shape=())
    return field_of(name, array, shape=shape)


def _is_of_kind(given: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    """Whether all later blocks will fit a dtype too: floats are never narrowed, integers are checked one by one."""
    return np.can_cast(given, dtype, "safe") or (given.kind in "biu" and dtype.kind in "biu")


def _holds(dtype: np.dtype[Any], array: np.ndarray) -> bool:
    """Whether a dtype holds every value of an array exactly."""
    if np.can_cast(array.dtype, dtype, "safe"):
        return True
    if array.dtype.kind not in "biuf" or dtype.kind not in "biuf":
        return False
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
        return bool(np.array_equal(cast.astype(array.dtype), array, equal_nan=array.dtype.kind == "f"))


def _are_bytes(array: np.ndarray) -> bool:
    return array.dtype.kind == "O" and all(isinstance(value, bytes) for value in array.flat)


def _root(name: str) -> str:
    return name.partition("/")[0]


def _is_stray(name: str, spaces: Mapping[str, Field]) -> bool:
    return _root(name) in ("observation", "action") and name not in spaces
