"""What the commands that make stores say of them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from .output import answers, print_json
from .progress import shown

if TYPE_CHECKING:
    from historystore.algebra import Progress
    from historystore.store import Store


def make(progress: Iterator[Progress], places: Iterable[Path | str], *, verb: str, is_json: bool) -> None:
    """Do an operation, and say what the stores that it made hold: one line each, or JSON."""
    from historystore.store import open as open_store

    for _ in shown(progress, verb=verb):
        pass
    stores = [open_store(place) for place in places]
    if is_json:
        print_json([_facts(store) for store in stores])
        return
    console = answers()
    for store in stores:
        console.print(_line(store), markup=False, soft_wrap=True)
    console.print(f"next: hist inspect {shlex.quote(str(stores[0].place))}", markup=False, soft_wrap=True)


def _facts(store: Store) -> JsonValue:
    return {
        "path": str(store.place),
        "digest": store.digest,
        "num_learners": len(store.learners),
        "num_steps": store.num_steps,
        "num_shards": len(store.shard_names),
        "num_bytes": store.num_bytes,
    }


def _line(store: Store) -> str:
    num_shards = len(store.shard_names)
    return (
        f"{store.place}: {len(store.learners):,} learners, {store.num_steps:,} steps in {num_shards:,} "
        f"shard{'' if num_shards == 1 else 's'}, digest {store.digest[:12]}"
    )
