"""`hist filter`: a store of the learners that meet a condition."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from historystore.shards import Profile

from .made import make
from .places import STORE


@click.command()
@click.argument("store", type=STORE)
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--where", required=True, metavar="CONDITION", help="Which learners; see --columns for what it may name.")
@click.option("--profile", type=click.Choice(get_args(Profile)), help="How shards written anew are compressed.")
@click.option(
    "--columns", is_flag=True, is_eager=True, expose_value=False, callback=lambda *args: _print_columns(*args),
    help="List the columns, and exit.",
)  # fmt: skip
@click.option("--json", "is_json", is_flag=True, help="Print JSON and nothing else.")
def command(store: Path | str, out: Path, *, where: str, profile: Profile | None, is_json: bool) -> None:
    """Write the learners of STORE that meet a condition into a new store OUT, with everything that is theirs.

    A condition compares columns of a learner: and, or, not, in, < <= == != >= >, + - * /. Its episodes and histories
    have many rows; any, all, mean, min, max and count make one value of them. It is never run as code. What is not
    known, such as an entry that a task lacks, meets no comparison.

    Shards whose learners all stay are linked as they are, or copied where the disk cannot link. If it is interrupted,
    the same command goes on.

    \b
    Examples:
      hist filter darkroom-ppo good --where "return_last > 14 and algo == 'PPO'"
      hist filter darkroom-ppo good --where "progress >= 0.9 and stability > 0.95 and improvement > 5"
      hist filter darkroom-ppo left --where "task['goal'][0] < 4 and hyperparameters['learning_rate'] == 1e-3"
      hist filter darkroom-ppo late --where "mean(episode.length) < 18 and not any(episode.return > 15)"
      hist filter --columns
    """
    from historystore.algebra import iter_filtered
    from historystore.store import open as open_store

    progress = iter_filtered(open_store(store), out, where=where, profile=profile)
    make(progress, [out], verb="filtering", is_json=is_json)


def _print_columns(ctx: click.Context, _: click.Parameter, is_asked: bool) -> None:
    """Print what a condition may name."""
    if not is_asked or ctx.resilient_parsing:
        return
    from historystore.learner_columns import COLUMNS, TABLES

    for name, (meaning, _column) in COLUMNS.items():
        click.echo(f"{name:<16} {meaning}")
    for table, columns in TABLES.items():
        click.echo(f"{table + '.<column>':<16} {', '.join(columns)}")
    ctx.exit()
