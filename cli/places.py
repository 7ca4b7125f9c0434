"""What commands take where a store is meant: a path, or the URL of a remote one."""

from __future__ import annotations

from pathlib import Path

import click


class StoreType(click.ParamType):  # type: ignore[type-arg]  # generic only in later versions of click
    """A path, or a URL such as s3://bucket/store; a local URL becomes a path."""

    name = "path"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Return a path, or the text of a URL."""
        from historystore.places import path_or_url

        return path_or_url(value)


STORE = StoreType()
