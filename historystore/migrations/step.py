"""What a step of a migration is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from historystore.documents import StoreDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How a store gets from one version of the format to the next; both functions are pure."""

    to_version: str
    document: Callable[[StoreDocument], StoreDocument]
    """What `store.json` says afterwards."""
    shard: Callable[[Path], bytes]
    """The bytes of the file that takes a shard's place; its header's `replaces` names the shard."""
