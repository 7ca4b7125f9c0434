"""`hist migrate`: a store in this version of the format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import answers, print_json
from .places import STORE
from .progress import shown

if TYPE_CHECKING:
    from pydantic import JsonValue

    from historystore.migrate import PlannedStep


@click.command()
@click.argument("store", type=STORE)
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON and nothing else.")
def command(store: Path | str, *, is_dry_run: bool, is_json: bool) -> None:
    """Bring a store, in place, to this version of the format.

    A store of an earlier version reads as it is; adding to it takes this. Every learner keeps its digest, which is
    compared after each step and before anything is deleted. Until then the disk holds the shards twice. Broken off,
    the store opens as before, and the same command goes on. Record nothing into it meanwhile.

    \b
    Examples:
      hist migrate darkroom-ppo --dry-run     which steps, and how many bytes they write
      hist migrate darkroom-ppo
    """
    from historystore.documents import FORMAT_VERSION
    from historystore.migrate import migrate, planned_steps
    from historystore.store import open as open_store

    steps = planned_steps(store)
    if not is_dry_run:
        for _ in shown(migrate(store), verb="migrating"):
            pass
    digest = open_store(store).digest
    if is_json:
        dumped: list[JsonValue] = [step.model_dump(mode="json") for step in steps]
        print_json({"path": str(store), "is_dry_run": is_dry_run, "steps": dumped, "digest": digest})
        return
    console = answers()
    for line in _lines(store, steps, is_dry_run=is_dry_run, version=FORMAT_VERSION):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"digest {digest}", markup=False, soft_wrap=True)
    if steps:
        following = f"hist migrate {store}" if is_dry_run else f"hist verify {store}"
        console.print(f"next: {following}", markup=False, soft_wrap=True)


def _lines(store: Path | str, steps: Sequence[PlannedStep], *, is_dry_run: bool, version: str) -> list[str]:
    """Say what each step does, or did."""
    if not steps:
        return [f"{store}: is in format {version} already"]
    verb = "would write" if is_dry_run else "wrote"
    return [
        f"{store}: {step.from_version} -> {step.to_version} {verb} {step.num_shards:,} shards of "
        f"{step.num_bytes:,} bytes anew"
        for step in steps
    ]
