"""The known families by name. A family's module loads when it is asked for."""

from collections.abc import Callable

import gymnasium as gym

from historystore.errors import InvalidValue
from historystore.tasks.protocol import Family


def _darkroom() -> Family:
    from historystore.tasks.darkroom import FAMILY

    return FAMILY


def _darkroom_hard() -> Family:
    from historystore.tasks.darkroom_hard import FAMILY

    return FAMILY


_FAMILIES: dict[str, Callable[[], Family]] = {"darkroom": _darkroom, "darkroom-hard": _darkroom_hard}


def families() -> list[str]:
    """List the names of the known families, sorted."""
    return sorted(_FAMILIES)


def family(name: str) -> Family:
    """Return the family of that name.

    Raises:
        InvalidValue: no family has that name.
    """
    if name not in _FAMILIES:
        raise InvalidValue(
            f"env: no family is called {name!r}, expected one of {', '.join(families())}. Check the name."
        )
    return _FAMILIES[name]()


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
