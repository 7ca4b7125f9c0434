"""Names of worlds and algorithms for the shell to complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

Completion = Callable[[click.Context, click.Parameter, str], list[str]]


def worlds() -> list[str]:
    """List the families of this package, then the environments that Gymnasium has registered."""
    import gymnasium

    from historystore.tasks import families

    return [*families(), *sorted(env_id for env_id in gymnasium.registry if "/" not in env_id)]


def completed(names: Callable[[], Iterable[str]]) -> Completion:
    """Return the completion of an option that takes one of some names."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete
