"""`hist convert`: a store in another format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import answers, print_json
from .places import STORE
from .progress import shown

if TYPE_CHECKING:
    from historystore.convert import Converted


@click.command()
@click.argument("store", type=STORE)
@click.argument("out", type=STORE)
@click.option("--format", "format_name", type=click.Choice(["hdf5", "arrow"]), required=True, help="Of the new shards.")
@click.option(
    "--profile",
    type=click.Choice(["standard", "fast", "archive", "compat"]),
    help="What they are for; by default standard HDF5 and fast Arrow.",
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON and nothing else.")
def command(store: Path | str, out: Path | str, *, format_name: str, profile: str | None, is_json: bool) -> None:
    """Write a store anew in another format, into the folder OUT.

    Every learner keeps its digest, and everything that reads a store reads the new one as it read the old. Broken off,
    OUT is no store yet, and the same command writes it whole.

    \b
    Profiles:
      hdf5   standard  compressed as far as costs no speed
      hdf5   archive   the smallest
      hdf5   compat    gzip alone: h5py reads it without a plugin; larger
      arrow  fast      not compressed: windows are gathered right from a memory map
      arrow  archive   compressed with Zstandard

    \b
    Examples:
      hist convert darkroom-ppo darkroom-fast --format arrow
      hist convert darkroom-ppo darkroom-small --format hdf5 --profile archive
    """
    from historystore.store import open as open_store

    last = _followed(store, out, format_name, profile)
    digest = open_store(out).digest
    if is_json:
        print_json({"path": str(out), "digest": digest, **last.model_dump(mode="json")})
        return
    console, share = answers(), f" ({last.num_bytes / last.total_bytes:.2f} of before)" if last.total_bytes else ""
    console.print(f"{out}: {last.num_shards:,} shards, {last.num_bytes:,} bytes{share}", markup=False, soft_wrap=True)
    console.print(f"digest {digest}", markup=False, soft_wrap=True)
    console.print(f"next: hist inspect {out}", markup=False, soft_wrap=True)


def _followed(store: Path | str, out: Path | str, format_name: str, profile: str | None) -> Converted:
    from historystore.convert import convert

    *_, last = shown(convert(store, out, format=format_name, profile=profile), verb="converting")  # type: ignore[arg-type]
    return last
