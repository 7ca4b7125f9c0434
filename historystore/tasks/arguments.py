"""The arguments of a family, as `--env-arg` gives them, checked against its defaults."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from historystore.errors import InvalidValue

Configurable = TypeVar("Configurable", bound=Any)
MOST = 1_000_000
"""Steps of an episode, or tasks."""
_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def configured(default: Configurable, args: Mapping[str, Any]) -> Configurable:
    """Return a family with some of its `arguments` changed; `args` of the result holds those that differ.

    The family is a dataclass with a field for each of its arguments and one called `args`. Values are of the kind that
    the default is of; what else they must satisfy is checked by the family itself.

    Raises:
        InvalidValue: an unknown name, or a value of another kind.
    """
    values = {name: _checked(default, name, value) for name, value in args.items()}
    changed = {name: value for name, value in sorted(values.items()) if value != getattr(default, name)}
    return dataclasses.replace(default, **changed, args=changed) if changed else default


def _checked(default: Any, name: str, value: Any) -> Any:
    if name not in default.arguments:
        known = ", ".join(default.arguments) or "none"
        raise InvalidValue(f"--env-arg: {default.name} has no argument {name!r}, expected {known}. Check the name.")
    kind = type(getattr(default, name))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise InvalidValue(
            f"--env-arg {name}: {default.name} takes {_NAMES[kind]}, got {json.dumps(value)}. Change the value."
        )
    return value


def check_counts(family: Any, *names: str) -> None:
    """Raise InvalidValue where an argument of a family that counts something is below 1, or more than memory takes."""
    for name in names:
        if not 1 <= (value := getattr(family, name)) <= MOST:
            raise InvalidValue(f"--env-arg {name}: expected 1 to {MOST:,}, got {value}. Change the value.")


def check_room(family: Any, *, largest: int) -> None:
    """Raise InvalidValue where the `size` or `max_episode_steps` of a family of rooms is out of range."""
    if not 2 <= family.size <= largest:
        raise InvalidValue(
            f"--env-arg size: expected 2 to {largest} cells a side, got {family.size}. Change the value."
        )
    check_counts(family, "max_episode_steps")
