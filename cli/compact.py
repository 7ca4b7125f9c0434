"""`hist compact`: the same store in fewer files."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from historystore.shards import Profile

from .made import make
from .places import STORE


@click.command(context_settings={"show_default": True})
@click.argument("store", type=STORE)
@click.option(
    "--target-mb", type=click.FloatRange(min=0, min_open=True), default=64.0,
    help="Join shards of less than half as many megabytes of steps, uncompressed, into some of at most that.",
)  # fmt: skip
@click.option(
    "--profile",
    type=click.Choice(get_args(Profile)),
    help="How new shards are compressed.",
    show_default="the format's own",
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON and nothing else.")
def command(store: Path | str, *, target_mb: float, profile: Profile | None, is_json: bool) -> None:
    """Remove hidden steps from STORE, in place, and join its small shards.

    What goes are attempts at a learner that a complete one has superseded; nothing of a learner that is not complete.
    The store's digest stays. It may be killed at any moment, and the same command goes on; recorders may work at the
    store all the while. A process that reads old shards meanwhile has to open the store again.

    \b
    Example:
      hist compact darkroom-ppo
    """
    from historystore.compact import iter_compacted

    progress = iter_compacted(store, target_bytes=round(target_mb * 1024 * 1024), profile=profile)
    make(progress, [store], verb="compacting", is_json=is_json)
