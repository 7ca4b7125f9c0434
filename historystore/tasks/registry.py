"""The known families by name. A family's module loads when it is asked for."""

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym

from historystore.errors import InvalidValue
from historystore.tasks.arguments import configured
from historystore.tasks.protocol import Family


def _darkroom() -> Family:
    from historystore.tasks.darkroom import FAMILY

    return FAMILY


def _darkroom_hard() -> Family:
    from historystore.tasks.darkroom_hard import FAMILY

    return FAMILY


_FAMILIES: dict[str, Callable[[], Family]] = {"darkroom": _darkroom, "darkroom-hard": _darkroom_hard}


def families() -> list[str]:
    """List the names of the families of this package, sorted."""
    return sorted(_FAMILIES)


def family(name: str, args: Mapping[str, Any] | None = None) -> Family:
    """Return the family of that name, with some of its arguments changed.

    Raises:
        InvalidValue: no family has that name, or it does not take such an argument.
    """
    if name not in _FAMILIES:
        raise InvalidValue(
            f"env: no family is called {name!r}, expected one of {', '.join(families())}. Check the name."
        )
    return configured(_FAMILIES[name](), args or {})


def find(name: str, args: Mapping[str, Any] | None = None) -> Family | None:
    """Return the family of a store or learner where it is one of this package, else None; never imports anything else.

    This is for readers: what a store says of its family must not decide which modules are loaded.
    """
    try:
        return family(name, args) if name in _FAMILIES else None
    except InvalidValue:  # recorded with arguments that this version does not know
        return None


def register() -> None:
    """Register every family's environment with Gymnasium; again is harmless.

    The entry points are strings, so that no environment is imported before it is made.
    """
    table: dict[str, dict[str, int | bool]] = {
        "historystore/DarkRoom-v0": {"size": 9, "is_rewarded_once": False},
        "historystore/DarkRoomHard-v0": {"size": 17, "is_rewarded_once": True},
    }
    for env_id, kwargs in table.items():
        if env_id not in gym.registry:
            gym.register(
                id=env_id, entry_point="historystore.tasks.darkroom:DarkRoom", max_episode_steps=20, kwargs=kwargs
            )
