"""What users name by an import path: modules of installed packages, or of the current directory."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from historystore.errors import InvalidValue


def make_reachable(module: str) -> None:
    """Let a module of the current directory be imported where nothing installed has its name; imports nothing."""
    root = module.partition(".")[0]
    here = str(Path.cwd())
    if root not in sys.modules and importlib.util.find_spec(root) is None and here not in sys.path:
        sys.path.append(here)
        importlib.invalidate_caches()


def import_module(module: str, *, where: str) -> ModuleType:
    """Import a module that a user named.

    Raises:
        InvalidValue: it cannot be imported; the message holds what Python said, and begins with `where`.
    """
    make_reachable(module)
    try:
        return importlib.import_module(module)
    except Exception as error:  # a user's module may raise anything
        said = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")
        raise InvalidValue(
            f"{where}: module {module} cannot be imported, {said}. It is looked for among the installed packages and "
            f"in {Path.cwd()}. Correct it."
        ) from error
