"""`hist recover`: what can still be read of a damaged store, in a new one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import answers, print_json
from .progress import shown

if TYPE_CHECKING:
    from historystore.losses import Loss, Recovered


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--json", "is_json", is_flag=True, help="Print JSON and nothing else.")
def command(store: Path, out: Path, *, is_json: bool) -> None:
    """Save what can be read of a damaged store into the folder OUT, and list what is lost.

    STORE is never written to. Whole shards are carried over as they are; of damaged ones each history is saved up to
    its first step that cannot be read. A learner that loses something is partial in OUT, with the counts of what is
    left, so that hist record with its old options and --out OUT records it again, and OUT is then as STORE was.

    Exit code 0 also if something is lost. Broken off, OUT is no store yet, and the same command begins anew.

    \b
    Examples:
      hist verify darkroom-ppo
      hist recover darkroom-ppo saved
      hist verify saved
      hist record --algo ppo --env darkroom --seeds 0-999 --out saved
    """
    last, losses = _followed(store, out)
    if is_json:
        counts = {"num_whole": last.num_whole, "num_rewritten": last.num_rewritten}
        print_json({"path": str(out), **counts, "losses": [loss.model_dump(mode="json") for loss in losses]})
        return
    console = answers()
    for loss in losses:
        console.print(f"lost: {loss}", markup=False, soft_wrap=True)
    shards = f"{last.num_whole:,} shards carried over, {last.num_rewritten:,} written anew"
    verdict = f"{len(losses):,} losses" if losses else "nothing is lost"
    console.print(f"{out}: {shards}; {verdict}.", markup=False, soft_wrap=True)
    console.print(f"next: hist verify {out}", markup=False, soft_wrap=True)


def _followed(store: Path, out: Path) -> tuple[Recovered, list[Loss]]:
    from historystore.recover import recover

    states = list(shown(recover(store, out), verb="recovering"))
    return states[-1], [loss for state in states for loss in state.losses]
