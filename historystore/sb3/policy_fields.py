"""Step fields that only the learner knows, read from the variables of its training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces

from historystore.errors import InvalidValue
from historystore.fields import flatten, space_fields
from historystore.recording.source_vec_env import SourceVecEnv
from historystore.sb3.layers import split_layers

Reading: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""Take one field's value at the present step, for all streams, from the loop's variables."""

_DEFAULT = ("log_prob", "value", "raw_action")


def field_readings(
    loop: Mapping[str, Any], action_space: spaces.Space[Any], fields: Sequence[str] | None
) -> list[tuple[str, Reading]]:
    """Return how to read each wanted field that the algorithm has; `fields` None wants all but the optional ones.

    What the learner itself saw is optional, unless its family shows it more than is recorded as the observation.

    On-policy algorithms have `log_prob` and `value`, read as tensors. `raw_action` exists where the executed action can
    differ from it, that is for Box actions: what the policy drew before clipping (on-policy), or the action scaled to
    [-1, 1] as the replay buffer holds it (off-policy).
    """
    wanted = _default_names(loop) if fields is None else fields
    readings = {name: reading for name, reading in _policy_readings(loop, action_space).items() if name in wanted}
    if "source_observation" in wanted:
        readings |= _source_readings(loop["self"].observation_space)
    readings |= {name: _info_reading(name) for name in wanted if name.startswith("info/")}
    return list(readings.items())


def _default_names(loop: Mapping[str, Any]) -> tuple[str, ...]:
    wrappers, _ = split_layers(loop["self"].get_env())
    has_view = any(isinstance(wrapper, SourceVecEnv) for wrapper in wrappers)
    return (*_DEFAULT, "source_observation") if has_view else _DEFAULT


def _policy_readings(loop: Mapping[str, Any], action_space: spaces.Space[Any]) -> dict[str, Reading]:
    readings: dict[str, Reading] = {}
    if "log_probs" in loop and "values" in loop:
        readings |= {"log_prob": itemgetter("log_probs"), "value": itemgetter("values")}
    if isinstance(action_space, spaces.Box):
        if "clipped_actions" in loop:
            readings["raw_action"] = itemgetter("actions")
        elif "buffer_actions" in loop:
            readings["raw_action"] = itemgetter("buffer_actions")
    return readings


def _source_readings(space: spaces.Space[Any]) -> dict[str, Reading]:
    """Return the readings of what the learner itself saw; the loop moves on to the next observation after callbacks."""

    def reading(name: str) -> Reading:
        return lambda loop: flatten("source_observation", space, loop["self"]._last_obs)[name]

    return {field.name: reading(field.name) for field in space_fields("source_observation", space)}


def _info_reading(name: str) -> Reading:
    """Return the reading of an entry of the info, whose first value sets dtype and shape for all of them."""
    first: list[np.ndarray] = []

    def read(loop: Mapping[str, Any]) -> np.ndarray:
        values = info_values(name, loop["infos"], step=loop["self"].num_timesteps)
        if not first:
            first.append(values)
        if values.shape != first[0].shape or not np.can_cast(values.dtype, first[0].dtype, "safe"):
            raise InvalidValue(
                f"fields: {name} is {_kind(values)} at step {loop['self'].num_timesteps}, expected {_kind(first[0])} "
                "as at the first step. Leave it out, or let the environment give one kind of value."
            )
        return values

    return read


def info_values(name: str, infos: Sequence[Mapping[str, Any]], *, step: int) -> np.ndarray:
    """Return an entry of the info of every stream.

    Raises:
        InvalidValue: some have none, or it is no number.
    """
    key = name.removeprefix("info/")
    try:
        values = np.asarray([info[key] for info in infos])
    except KeyError:
        raise InvalidValue(
            f"fields: {name} is missing at step {step}, expected it in the info of every "
            f"step, got {', '.join(map(str, infos[0])) or 'nothing'}. Leave it out, or add it to the "
            "environment's info."
        ) from None
    except ValueError:  # arrays of several shapes
        values = np.zeros(0, object)
    if values.dtype.kind not in "biufc":
        raise InvalidValue(
            f"fields: {name} is no number at step {step}, expected numbers or flags of one shape "
            "from all streams. Leave it out."
        )
    return values


def _kind(values: np.ndarray) -> str:
    return f"{values.dtype} of shape {values.shape[1:]}"
