"""`hist verify`: every promise of a store, checked."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from historystore.problems import Problem

from .output import answers, print_json
from .places import STORE
from .progress import shown


@click.command()
@click.argument("store", type=STORE)
@click.option("--json", "is_json", is_flag=True, help="Print JSON and nothing else.")
def command(store: Path | str, *, is_json: bool) -> None:
    """Read every byte of a store, or of one shard, and list every problem with its place.

    Checks files against their names and digests, tables against steps, and each learner's digest against its data. Exit
    code 1 if there is a problem; a note, such as what a killed recorder left behind, is none. Nothing is written.

    A remote store is copied into the cache's folder and checked there: every byte is the server's.

    \b
    Examples:
      hist verify darkroom-ppo
      hist verify s3://bucket/darkroom-ppo
    """
    problems = _found(store)
    num_problems = sum(not problem.is_note for problem in problems)
    if is_json:
        print_json(
            {
                "path": str(store),
                "is_whole": not num_problems,
                "problems": [problem.model_dump(mode="json") for problem in problems],
            }
        )
    else:
        console = answers()
        for problem in problems:
            console.print(f"{'note' if problem.is_note else 'problem'}: {problem}", markup=False, soft_wrap=True)
        console.print(f"{store}: {_verdict(num_problems)}", markup=False, soft_wrap=True)
    sys.exit(1 if num_problems else 0)


def _found(store: Path | str) -> list[Problem]:
    from historystore.verify import iter_checked

    problems: list[Problem] = []
    for checked in shown(iter_checked(store), verb="checking"):
        problems += checked.problems
    return problems


def _verdict(num_problems: int) -> str:
    if not num_problems:
        return "whole. Every file holds what was written to it."
    return f"{num_problems} problem{'s' if num_problems > 1 else ''}."
