"""The known families by name. A family's module loads when it is asked for."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym

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


def _watermaze() -> Family:
    from historystore.tasks.watermaze import FAMILY

    return FAMILY


_FAMILIES: dict[str, Callable[[], Family]] = {
    "bandit": _bandit,
    "dark-key-to-door": _dark_key_to_door,
    "darkroom": _darkroom,
    "darkroom-hard": _darkroom_hard,
    "darkroom-permuted": _darkroom_permuted,
    "watermaze": _watermaze,
}

_ENVIRONMENTS: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("historystore/AdversarialBandit-v0", "bandit:AdversarialBandit", 100, {}),
    ("historystore/DarkKeyToDoor-v0", "dark_key_to_door:DarkKeyToDoor", 50, {"size": 9, "ends_at_door": False}),
    ("historystore/DarkRoom-v0", "darkroom:DarkRoom", 20, {"size": 9, "is_rewarded_once": False}),
    ("historystore/DarkRoomHard-v0", "darkroom:DarkRoom", 20, {"size": 17, "is_rewarded_once": True}),
    ("historystore/DarkRoomPermuted-v0", "darkroom_permuted:PermutedDarkRoom", 50, {"size": 9}),
    ("historystore/Watermaze-v0", "watermaze:Watermaze", 50, {}),
)
"""Gymnasium's id, module and class, steps an episode, and the arguments that are not those of the class."""


def _minigrid(name: str, args: Mapping[str, Any]) -> Family:
    from historystore.tasks.minigrid_family import minigrid_family

    return minigrid_family(name, args)


def _metaworld(name: str, args: Mapping[str, Any]) -> Family:
    from historystore.tasks.metaworld_family import metaworld_family

    return metaworld_family(name, args)


_PREFIXES: dict[str, Callable[[str, Mapping[str, Any]], Family]] = {
    "metaworld": _metaworld,
    "minigrid": _minigrid,
}
_MADE: dict[tuple[str, str], Family] = {}


def families() -> list[str]:
    """List the names of the families of this package, sorted."""
    return sorted(_FAMILIES)


def family(name: str, args: Mapping[str, Any] | None = None) -> Family:
    """Return the family of that name, with some of its arguments changed.

    A name is one of `families()`, a prefix and an environment of that package (`minigrid:MiniGrid-Empty-8x8-v0`,
    `metaworld:reach-v3`), a class of a user's module (`my_package:MyFamily`), or a Gymnasium id (`CartPole-v1`,
    `ALE/Pong-v5`, `my_package:MyEnv-v0`). Within one process, the same family is made once.

    Raises:
        InvalidValue: nothing has that name, or it does not take such an argument.
        MissingExtra: a package that it needs is not installed.
    """
    if name in _FAMILIES:
        return configured(_FAMILIES[name](), args or {})
    key = name, json.dumps(args or {}, sort_keys=True)
    if key not in _MADE:
        _MADE[key] = _foreign(name, args or {})
    return _MADE[key]


def _foreign(name: str, args: Mapping[str, Any]) -> Family:
    """Make a family over environments that are not this package's."""
    prefix, colon, rest = name.partition(":")
    if colon and prefix in _PREFIXES:
        return _PREFIXES[prefix](rest, args)
    if colon and rest.isidentifier():
        from historystore.tasks.own_family import own_family

        return own_family(name, args)
    from historystore.tasks.gymnasium_family import gymnasium_family

    return gymnasium_family(name, args, families=families())


def find(name: str, args: Mapping[str, Any] | None = None) -> Family | None:
    """Return the family of a store or learner where it is one of this package or made already; never imports others.

    This is for readers: what a store says of its family must not decide which modules are loaded.
    """
    try:
        if name in _FAMILIES:
            return family(name, args)
    except InvalidValue:  # recorded with arguments that this version does not know
        return None
    return _MADE.get((name, json.dumps(args or {}, sort_keys=True)))


def register() -> None:
    """Register every family's environment with Gymnasium; again is harmless.

    The entry points are strings, so that no environment is imported before it is made.
    """
    for env_id, place, max_episode_steps, kwargs in _ENVIRONMENTS:
        if env_id not in gym.registry:
            entry_point = f"historystore.tasks.{place}"
            gym.register(id=env_id, entry_point=entry_point, max_episode_steps=max_episode_steps, kwargs=kwargs)
