"""`hist split`: a store for training and one for testing, on other tasks."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from historystore.shards import Profile

from .made import make
from .places import STORE


@click.command(context_settings={"show_default": True})
@click.argument("store", type=STORE)
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--by", type=click.Choice(["task"]), default="task", help="What no two parts share.")
@click.option(
    "--ratio", default="0.9", metavar="SHARE", help="Of the tasks, for training; or three: train,validation,test."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of the split.")
@click.option(
    "--profile",
    type=click.Choice(get_args(Profile)),
    help="How shards written anew are compressed.",
    show_default="the format's own",
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON and nothing else.")
def command(
    store: Path | str, out: Path, *, by: str, ratio: str, seed: int, profile: Profile | None, is_json: bool
) -> None:
    """Write the learners of STORE into OUT/train and OUT/test, such that no task is in both.

    The parts are those that training and evaluating choose with the same ratios and seed. With three shares, such as
    0.7,0.1,0.2, there is OUT/validation too; a part whose share is 0 is not written. If it is interrupted, the same
    command goes on.

    \b
    Examples:
      hist split darkroom-ppo parts --by task --ratio 0.9
      hist split darkroom-ppo parts --ratio 0.7,0.1,0.2 --seed 1
      hist inspect parts
    """
    from historystore.algebra import iter_split
    from historystore.splits import PARTS
    from historystore.store import open as open_store

    progress = iter_split(open_store(store), out, ratios=_shares(ratio), seed=seed, profile=profile)
    made = (out / part for part in PARTS if (out / part).exists())
    make(progress, made, verb="splitting", is_json=is_json)


def _shares(text: str) -> tuple[float, ...]:
    """Parse one share, of the training tasks, or all three."""
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if len(shares) == 1 and 0 <= shares[0] <= 1:
        return (shares[0], 0.0, 1 - shares[0])
    if len(shares) != 3:
        raise click.UsageError(f"--ratio is a share from 0 to 1, or three of them, got {text!r}.")
    return shares
