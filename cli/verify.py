"""`hist verify`: every promise of a store, checked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from historystore.problems import Problem

from .output import answers, print_json
from .places import STORE
from .progress import shown

if TYPE_CHECKING:
    from historystore.verify import Depth


@click.command()
@click.argument("store", type=STORE)
@click.option(
    "--depth",
    type=click.Choice(["structure", "checksums", "semantics"]),
    default="semantics",
    show_default=True,
    help="How far to look, each as far as the one before it and further.",
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON and nothing else.")
def command(store: Path | str, *, depth: Depth, is_json: bool) -> None:
    """Check every promise of a store, or of one shard, and list every problem with its place.

    Exit code 1 if there is a problem; a note, such as what a killed recorder left behind, is none. Nothing is written.

    A remote store is copied into the cache's folder and checked there: every byte is the server's.

    \b
    Depths:
      structure  names, documents and headers, and whether tables and steps have the
                 shapes that these say; no step is read
      checksums  every byte, against names, digests and checksums
      semantics  what the data say: the episode table against flags and rewards, steps
                 without a gap, values against spaces, each learner's digest

    \b
    Examples:
      hist verify darkroom-ppo
      hist verify darkroom-ppo --depth structure --json
      hist verify s3://bucket/darkroom-ppo

    What is damaged is restored from a copy, or salvaged: hist recover --help.
    """
    problems = _found(store, depth)
    num_problems = sum(not problem.is_note for problem in problems)
    if is_json:
        print_json(
            {
                "path": str(store),
                "depth": depth,
                "is_whole": not num_problems,
                "problems": [problem.model_dump(mode="json") for problem in problems],
            }
        )
    else:
        console = answers()
        for problem in problems:
            console.print(f"{'note' if problem.is_note else 'problem'}: {problem}", markup=False, soft_wrap=True)
        console.print(f"{store}: {_verdict(num_problems, depth)}", markup=False, soft_wrap=True)
    sys.exit(1 if num_problems else 0)


def _found(store: Path | str, depth: Depth) -> list[Problem]:
    from historystore.verify import iter_checked

    problems: list[Problem] = []
    for checked in shown(iter_checked(store, depth=depth), verb="checking"):
        problems += checked.problems
    return problems


def _verdict(num_problems: int, depth: Depth) -> str:
    if num_problems:
        return f"{num_problems} problem{'s' if num_problems > 1 else ''}."
    if depth == "structure":
        return "sound in its structure. The steps were not read."
    return "whole. Every file holds what was written to it."
