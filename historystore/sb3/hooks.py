"""One method of one object, replaced for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_ABSENT = object()


class Hook:
    """Replace a method on one object, and put back what was there.

    The class and other objects are untouched; nothing is pickled with the object's own state but the attribute itself.
    """

    def __init__(self, owner: Any, name: str, replacement: Callable[..., Any]) -> None:
        self._owner, self._name, self._replacement = owner, name, replacement
        self._before = vars(owner).get(name, _ABSENT)
        setattr(owner, name, replacement)

    def remove(self) -> None:
        """Put back what was there, unless somebody has replaced the method since: then theirs stays."""
        if vars(self._owner).get(self._name) is not self._replacement:
            return
        if self._before is _ABSENT:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._before)
