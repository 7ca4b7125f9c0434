"""`hist diff`: whether two stores hold the same, and where they do not."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from pydantic import JsonValue

from .output import answers, print_json
from .places import STORE
from .progress import shown


@click.command()
@click.argument("one", metavar="A", type=STORE)
@click.argument("other", metavar="B", type=STORE)
@click.option("--data-only", is_flag=True, help="Leave out attempts, times, hosts and versions.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON and nothing else.")
def command(one: Path | str, other: Path | str, *, data_only: bool, is_json: bool) -> None:
    """Say where the stores A and B differ in what they show; exit code 1 if they do.

    Names learners that only one has, and of the others the fields, streams and first steps that differ, episodes,
    updates, and where they come from. How stores are packed, compressed and named does not matter. Steps are read only
    of learners whose digests differ.

    \b
    Examples:
      hist diff darkroom-ppo copy
      hist diff mine theirs --data-only
    """
    from historystore.difference import iter_compared
    from historystore.store import open as open_store

    compared = iter_compared(open_store(one), open_store(other), is_data_only=data_only)
    found = [each for step in shown(compared, verb="comparing") for each in step.differences]
    if is_json:
        differences: list[JsonValue] = [difference.model_dump(mode="json") for difference in found]
        print_json({"one": str(one), "other": str(other), "is_same": not found, "differences": differences})
    else:
        console = answers()
        for difference in found:
            console.print(str(difference), markup=False, soft_wrap=True)
        number = f"{len(found):,} difference{'' if len(found) == 1 else 's'}"
        console.print(f"{one} and {other}: {number if found else 'the same'}.", markup=False, soft_wrap=True)
    sys.exit(1 if found else 0)
