"""A shard of a remote store, read from a copy on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from historystore.documents import LearnerRow, ShardHeader
from historystore.errors import DamagedData, StoreNotFound
from historystore.remote.cache import dropped_if_damaged
from historystore.shards import ShardReader, open_shard
from historystore.shards.protocol import Columns

if TYPE_CHECKING:
    from historystore.remote.place import RemotePlace

Answer = TypeVar("Answer")


class RemoteShard(ShardReader):
    """Fetches the shard when it is first read, and again where the cache let it go or its copy was damaged.

    See ShardReader.
    """

    def __init__(self, place: RemotePlace, name: str) -> None:
        self._place = place
        self._name = name
        self._reader: ShardReader | None = None

    def __repr__(self) -> str:
        return f"RemoteShard({self._place.at(self._name)!r})"

    def __reduce__(self) -> tuple[type[RemoteShard], tuple[RemotePlace, str]]:
        return RemoteShard, (self._place, self._name)

    @property
    def path(self) -> Path:
        """The shard's copy on this machine; there as of now, for as long as the cache has room."""
        return self._place.fetched(self._name)

    @property
    def header(self) -> ShardHeader:
        """What the shard says about itself."""
        return self._read(lambda shard: shard.header)

    @property
    def learners(self) -> tuple[LearnerRow, ...]:
        """The learners with data in this shard, each as of this seal."""
        return self._read(lambda shard: shard.learners)

    @property
    def segments(self) -> Columns:
        """Which rows of the steps are which steps of which history."""
        return self._read(lambda shard: shard.segments)

    @property
    def episodes(self) -> Columns:
        """The episodes that ended in this shard, and those that were running at its seal."""
        return self._read(lambda shard: shard.episodes)

    @property
    def final_observations(self) -> Columns:
        """What followed the last step of each episode, and of each history as of this shard."""
        return self._read(lambda shard: shard.final_observations)

    @property
    def updates(self) -> Columns:
        """The learners' updates."""
        return self._read(lambda shard: shard.updates)

    @property
    def chunk_steps(self) -> int:
        """The largest number of rows that any field compresses together."""
        return self._read(lambda shard: shard.chunk_steps)

    def field_chunk_steps(self, field: str) -> int:
        """Return how many rows of one field are compressed together."""
        return self._read(lambda shard: shard.field_chunk_steps(field))

    def read(self, field: str, start: int, stop: int) -> np.ndarray:
        """Read rows of one step field, in its logical dtype."""
        return self._read(lambda shard: shard.read(field, start, stop))

    @property
    def is_mapped(self) -> bool:
        """Whether `take` gathers right from the copy."""
        return self._read(lambda shard: shard.is_mapped)

    def take(self, field: str, rows: np.ndarray) -> np.ndarray:
        """Gather rows of one step field, in its logical dtype."""
        return self._read(lambda shard: shard.take(field, rows))

    def close(self) -> None:
        """Close the copy; the next read opens it again."""
        if self._reader is not None:
            self._reader.close()

    def _read(self, ask: Callable[[ShardReader], Answer]) -> Answer:
        if self._reader is None:
            self._reader = open_shard(self._place.fetched(self._name))
        try:
            return ask(self._reader)
        except (StoreNotFound, DamagedData) as error:
            self._reader.close()
            copy = self._reader.path
            if not dropped_if_damaged(copy.name):
                raise type(error)(str(error).replace(str(copy), str(self._place.at(self._name)))) from error
            self._place.fetched(self._name)
            return ask(self._reader)
