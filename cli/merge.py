"""`hist merge`: one store of several."""

from __future__ import annotations

from pathlib import Path

import click

from .made import make
from .places import STORE


@click.command()
@click.argument("stores", nargs=-1, required=True, type=STORE)
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--json", "is_json", is_flag=True, help="Print JSON and nothing else.")
def command(stores: tuple[Path | str, ...], out: Path, *, is_json: bool) -> None:
    """Write all that STORES hold into a new store OUT; they must be of one family and have the same spaces.

    Every shard is linked as it is, or copied where the disk cannot link. Where several stores hold a learner, a
    complete attempt shows, of several the earliest. If it is interrupted, the same command goes on.

    \b
    Examples:
      hist merge darkroom-ppo darkroom-a2c darkroom
      hist merge part-1 part-2 part-3 whole
    """
    from historystore.algebra import iter_merged
    from historystore.store import open as open_store

    make(iter_merged([open_store(store) for store in stores], out), [out], verb="merging", is_json=is_json)
