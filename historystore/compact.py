"""Compacting a store: hidden steps go, and small shards become larger ones.

Each new shard holds everything visible of the old ones that it `replaces`; as soon as it has its name they are
invisible, and then they are removed. So a kill at any moment leaves a store with the same digest, and the next run
removes what was left over (`tests/test_store_compact.py` stops it at every moment).

What goes are attempts at a learner that another, complete attempt has superseded; of an attempt that the complete one
continues, the steps from there on. At a learner that is not complete a recorder may still be at work: it is moved as it
is, all attempts of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from historystore.algebra import Progress, format_of
from historystore.card import CARD, write_card
from historystore.catalog import summary
from historystore.files import remove_files, sweep
from historystore.folder import SHARDS, shard_names
from historystore.places import StorePath
from historystore.rewrite import Layout, clipped, joined, layout, selected
from historystore.shards import Profile, ShardReader, ShardTables, open_shard, read_tables
from historystore.store import Store
from historystore.store import open as open_store
from historystore.visible import ShardSummary, VisibleLearner, visible_learners, visible_shards
from historystore.writer import SEAL_BYTES, put_shard


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shard:
    """A visible shard, and what stays of it."""

    reader: ShardReader
    stops: Mapping[int, int | None]
    """Row among its learners that stays -> the first step of it that goes, None if none does."""
    is_whole: bool
    """Whether everything in it stays."""
    num_bytes: int
    """Of the steps that stay, uncompressed; what seals are measured in."""
    kind: tuple[str, Layout]
    """What it must share with the shards that it is joined with."""
    order: tuple[str, str, int]
    """Shards that hold the same attempt come one after the other, by seal."""


def compact(path: StorePath, *, target_bytes: int = SEAL_BYTES, profile: Profile | None = None) -> Store:
    """Compact a store in place, and open it.

    Shards of less than half of `target_bytes` are joined into shards of at most that. Needs room on the disk for one
    new shard at a time, and memory for one. Checkpoints stay.

    Args:
        path: the store's folder.
        target_bytes: of a shard's steps, uncompressed.
        profile: how the new shards are compressed.

    Raises:
        DamagedData: a shard that has to be written anew is damaged.
        WriteFailed: the disk refused; nothing is lost, the same call goes on.
    """
    for _ in iter_compacted(path, target_bytes=target_bytes, profile=profile):
        pass
    return open_store(path)


def iter_compacted(
    path: StorePath, *, target_bytes: int = SEAL_BYTES, profile: Profile | None = None
) -> Iterator[Progress]:
    """Compact as `compact` does, and yield progress."""
    store = open_store(path, mode="a")
    sweep(store.path / SHARDS)
    _remove_replaced(store)
    store.status_of()  # makes the index anew, lest shards replaced twice since it was made look lost
    bins = _bins(_planned(store), target_bytes=target_bytes)
    total = sum(shard.reader.path.stat().st_size for one in bins for shard in one)
    done = 0
    for one in bins:
        done += sum(shard.reader.path.stat().st_size for shard in one)
        name = put_shard(store, _compacted(one, store), shard_format=format_of(one[0].reader, profile=profile))
        remove_files(store.path / SHARDS, [shard.reader.path.name for shard in one])
        yield Progress(what=name, done=done, total=total)
    _derive(open_store(path))


def _derive(store: Store) -> None:
    """Make what is derived anew now, rather than leave it to the next reader."""
    store.status_of()  # works out the index and saves it
    if (store.path / CARD).exists():
        write_card(store)


def _remove_replaced(store: Store) -> None:
    """Remove the shards that an interrupted run replaced; one that itself replaces others goes behind them."""
    names = set(shard_names(store.place))
    replaces = {name: set(_replaces(store.path / SHARDS / name)) & names for name in names}
    left = set().union(*replaces.values())
    while left:
        names = {name for name in left if not replaces[name] & left}
        remove_files(store.path / SHARDS, sorted(names))
        left -= names
    store.refresh()


def _replaces(shard: Path) -> tuple[str, ...]:
    reader = open_shard(shard)
    replaces = reader.header.replaces
    reader.close()
    return replaces


def _planned(store: Store) -> list[_Shard]:
    """Say of each visible shard what stays of it."""
    readers = {name: open_shard(store.path / SHARDS / name) for name in shard_names(store.place)}
    summaries = visible_shards(_summary(reader) for reader in readers.values())
    learners = {each.row.learner: each for each in visible_learners(summaries)}
    return [_shard(readers[each.name], each, learners) for each in summaries]


def _summary(reader: ShardReader) -> ShardSummary:
    found = summary(reader)
    reader.close()  # a store may have more shards than a process may have files open
    return found


def _shard(reader: ShardReader, shard: ShardSummary, learners: Mapping[str, VisibleLearner]) -> _Shard:
    stops: dict[int, int | None] = {}
    for i, row in enumerate(shard.learners):
        keeps, stop = _kept(learners[row.learner], row.attempt)
        if keeps:
            stops[i] = stop
    limit = np.zeros(len(shard.learners), np.int64)
    limit[list(stops)] = [np.iinfo(np.int64).max if stop is None else stop for stop in stops.values()]
    length = shard.segments["length"]
    kept = np.clip(limit[shard.segments["learner"]] - shard.segments["first_step"], 0, length)
    step_bytes = sum(
        np.dtype(field.stored_dtype).itemsize * int(np.prod(field.shape, dtype=np.int64))
        for field in reader.header.fields
    )
    return _Shard(
        reader=reader,
        stops=stops,
        is_whole=len(stops) == len(shard.learners) and bool((kept == length).all()),
        num_bytes=int(kept.sum()) * step_bytes,
        kind=(reader.path.suffix, layout(reader.header)),
        order=min(((row.learner, row.attempt, row.sequence) for row in shard.learners), default=("", "", 0)),
    )


def _kept(learner: VisibleLearner, attempt: str) -> tuple[bool, int | None]:
    """Say whether an attempt stays, and the step from which the complete attempt took it over, if any did."""
    if learner.status != "complete" or attempt == learner.row.attempt:
        return True, None
    stops = [link.stop for link in learner.links if link.attempt == attempt]
    return bool(stops), stops[0] if stops else None


def _bins(shards: Sequence[_Shard], *, target_bytes: int) -> list[list[_Shard]]:
    """Return which shards become one: small ones, next to each other in order, and each that does not stay whole.

    Shards of which nothing stays go with any other one, which holds all that is visible of them.
    """
    empty = [shard for shard in shards if not shard.stops]
    bins: list[list[_Shard]] = []
    kinds: dict[tuple[str, Layout], list[_Shard]] = {}
    kind = None
    for shard in sorted(shards, key=lambda shard: shard.order):
        if not shard.stops:
            continue
        kind = shard.kind if shard.kind[1] or kind is None else kind  # news of a learner goes with any steps
        if shard.num_bytes >= target_bytes / 2:
            bins.append([shard])
            continue
        small = kinds.get(kind, [])
        if not small or sum(each.num_bytes for each in small) + shard.num_bytes > target_bytes:
            bins.append(small := [])
            kinds[kind] = small
        small.append(shard)
    changed = [one for one in bins if len(one) > 1 or not one[0].is_whole]
    if empty:
        changed = changed or [min(bins, key=lambda one: one[0].num_bytes)]
        changed[0].extend(empty)
    return changed


def _compacted(shards: Sequence[_Shard], store: Store) -> ShardTables:
    """Return the shard that takes the place of some others."""
    tables = joined([_staying(shard) for shard in shards if shard.stops])
    names = tuple(sorted(shard.reader.path.name for shard in shards))
    header = tables.header.model_copy(update={"store": store.document, "replaces": names})
    return replace(tables, header=header)


def _staying(shard: _Shard) -> ShardTables:
    tables = read_tables(shard.reader)
    shard.reader.close()
    if shard.is_whole:
        return tables
    rows = list(shard.stops)
    stops = {place: stop for place, stop in enumerate(shard.stops.values()) if stop is not None}
    return clipped(selected(tables, rows), stops)
