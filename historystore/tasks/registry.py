"""The known families by name. A family's module loads when it is asked for."""

from collections.abc import Callable, Mapping

import gymnasium as gym
from pydantic import JsonValue

from historystore.errors import InvalidValue
from historystore.tasks.arguments import configured
from historystore.tasks.protocol import Family


def _bandit() -> Family:
    from historystore.tasks.bandit import FAMILY

    return FAMILY


def _dark_key_to_door() -> Family:
    from historystore.tasks.dark_key_to_door import FAMILY

    return FAMILY


def _darkroom() -> Family:
    from historystore.tasks.darkroom import FAMILY

    return FAMILY


def _darkroom_hard() -> Family:
    from historystore.tasks.darkroom_hard import FAMILY

    return FAMILY


def _darkroom_permuted() -> Family:
    from historystore.tasks.darkroom_permuted import FAMILY

    return FAMILY


_FAMILIES: dict[str, Callable[[], Family]] = {
    "bandit": _bandit,
    "dark-key-to-door": _dark_key_to_door,
    "darkroom": _darkroom,
    "darkroom-hard": _darkroom_hard,
    "darkroom-permuted": _darkroom_permuted,
}

_ENVIRONMENTS: tuple[tuple[str, str, int, dict[str, JsonValue]], ...] = (
    ("historystore/AdversarialBandit-v0", "bandit:AdversarialBandit", 100, {}),
    ("historystore/DarkKeyToDoor-v0", "dark_key_to_door:DarkKeyToDoor", 50, {"size": 9, "ends_at_door": False}),
    ("historystore/DarkRoom-v0", "darkroom:DarkRoom", 20, {"size": 9, "is_rewarded_once": False}),
    ("historystore/DarkRoomHard-v0", "darkroom:DarkRoom", 20, {"size": 17, "is_rewarded_once": True}),
    ("historystore/DarkRoomPermuted-v0", "darkroom_permuted:PermutedDarkRoom", 50, {"size": 9}),
)
"""Gymnasium's id, module and class, steps an episode, and the arguments that are not those of the class."""


def families() -> list[str]:
    """List the names of the families of this package, sorted."""
    return sorted(_FAMILIES)


def family(name: str, args: Mapping[str, JsonValue] | None = None) -> Family:
    """Return the family of that name, with some of its arguments changed.

    Raises:
        InvalidValue: no family has that name, or it does not take such an argument.
    """
    if name not in _FAMILIES:
        raise InvalidValue(
            f"env: no family is called {name!r}, expected one of {', '.join(families())}. Check the name."
        )
    return configured(_FAMILIES[name](), args or {})


def find(name: str, args: Mapping[str, JsonValue] | None = None) -> Family | None:
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
    for env_id, place, max_episode_steps, kwargs in _ENVIRONMENTS:
        if env_id not in gym.registry:
            entry_point = f"historystore.tasks.{place}"
            gym.register(id=env_id, entry_point=entry_point, max_episode_steps=max_episode_steps, kwargs=kwargs)
