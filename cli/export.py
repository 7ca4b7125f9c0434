"""`hist export`: a store in other people's formats."""

from __future__ import annotations

from pathlib import Path

import click

from historystore.exchange import exporter, exporters, iter_exported

from .exchange import limits, show
from .places import STORE

HELP = f"""Write a store's learners in another format, and say what that format cannot hold.

OUT appears when everything is in it, and must not be there before. Memory stays bounded.

\b
  minari   a Minari dataset; comes back whole, digests included, with hist import
  parquet  a folder of Parquet files, a row a step, for pandas and Hugging Face datasets
  xland    one HDF5 file as XLand-100B's: a group a task, (histories, steps) in uint8
  dicp     one HDF5 file as DICP's: a group a task, (steps, streams)

minari needs pip install 'historystore[exchange]'; of xland and dicp, only complete learners are written.

\b
Examples:
  hist export darkroom-ppo ~/.minari/datasets/darkroom-ppo-v0 --to minari
  hist export darkroom-ppo parquet --to parquet
  hist export darkroom-ppo darkroom.hdf5 --to xland

{limits(exporters(), lambda name: exporter(name).lost)}
"""


@click.command(help=HELP)
@click.argument("store", type=STORE)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--to", "format_", required=True, type=click.Choice(exporters()), help="The format.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON and nothing else.")
def command(store: Path | str, out: Path, *, format_: str, is_json: bool) -> None:
    """Write a store's learners in another format."""
    show(iter_exported(store, out, to=format_), is_json=is_json, verb="exporting")
