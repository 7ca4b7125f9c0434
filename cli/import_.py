"""`hist import`: other people's data as a store."""

from __future__ import annotations

from pathlib import Path

import click

from historystore.exchange import importer, importers, iter_imported

from .exchange import limits, show

HELP = f"""Make other people's data learners of a store, and say what the data does not tell.

STORE is made if absent, else it must have the same family and spaces. Learners that it has already are skipped, so that
the same command again does the rest. Where a source does not say what a step led to, a step field marks it.

\b
  minari  a Minari dataset's folder; one that hist export wrote comes back as it was
  xland   an HDF5 file of XLand-100B or XLand-Trivial-20B: a learner a group, a stream a history
  dicp    an HDF5 file of DICP's: a learner a group

\b
Examples:
  hist import ~/.minari/datasets/D4RL/door/human-v2 door --from minari
  hist import xland-trivial-20b.hdf5 xland --from xland
  hist import history_darkroom_PPO_alg-seed0.hdf5 darkroom-dicp --from dicp

{limits(importers(), lambda name: importer(name).lost)}
"""


@click.command(help=HELP)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--from", "format_", required=True, type=click.Choice(importers()), help="The format.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON and nothing else.")
def command(source: Path, store: Path, *, format_: str, is_json: bool) -> None:
    """Make other people's data learners of a store."""
    show(iter_imported(source, store, of=format_), is_json=is_json, verb="importing")
