"""Stores made of stores: filtered, split and merged, with every seed, parameter, update and origin of what they keep.

A shard whose learners all stay is kept as the file that it is: hard-linked where the disk can do that, copied whole
elsewhere. Only a shard of which some learners go is written anew. A learner goes or stays with all its attempts, so
what shows of it is the same (`tests/test_store_algebra.py` compares digests, and rows).

What a new store holds decides its id. So the same command, run again after it was interrupted, goes on with the same
store, and any other store in its place is refused.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from historystore.card import write_card
from historystore.checkpoints import DOCUMENT as CHECKPOINT
from historystore.documents import StoreDocument, canonical_json, signed
from historystore.errors import InvalidValue, SpaceMismatch
from historystore.files import create_file, link_file, make_folder, sweep
from historystore.folder import CHECKPOINTS, DOCUMENT, SHARDS, check_addable, check_free, read_document
from historystore.learner_columns import Predicate, matching_ids
from historystore.places import StorePath, place_of
from historystore.rewrite import selected
from historystore.shard_check import SHARED
from historystore.shards import Profile, ShardFormat, ShardReader, format_name, read_tables, shard_format
from historystore.shards.protocol import is_shard_name
from historystore.splits import Split, split_tasks
from historystore.store import Store
from historystore.store import open as open_store
from historystore.windows import tasks_of
from historystore.writer import put_shard

DEFAULT_SHARES = (0.9, 0.0, 0.1)
"""Of the tasks, for training, validation and test, when a store is split."""
_NAMESPACE = uuid.UUID("6f3c1b1e-6a5e-4c57-9f0c-2f7d3c0f3a10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an operation is."""

    what: str
    """What was done last."""
    done: int
    total: int
    """Bytes of shards that are read or linked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A store, and which of its learners are taken."""

    store: Store
    learners: frozenset[str]


def filter_store(store: Store, out: StorePath, *, where: Predicate | str, profile: Profile | None = None) -> Store:
    """Write a store of those learners that meet a condition, and open it.

    Args:
        store: where the learners are.
        out: the new store; what an interrupted run of the same left there is completed.
        where: a function of a learner, or an expression over `historystore.learner_columns.COLUMNS`, such as
            ``"return_last > 14 and algo == 'PPO'"``.
        profile: how shards that have to be written anew are compressed.

    Raises:
        InvalidValue: no learner meets the condition, it is not acceptable, or another store is at `out`.
        NotAStore: something else is at `out`.
        DamagedData: a shard that has to be written anew is damaged.
        WriteFailed: the disk refused; the same call completes the store.
    """
    return _last(iter_filtered(store, out, where=where, profile=profile), out)


def split_store(
    store: Store,
    out: StorePath,
    *,
    ratios: Sequence[float | int] = DEFAULT_SHARES,
    seed: int = 0,
    profile: Profile | None = None,
) -> Split:
    """Write a store for each part of a split by task: `out/train`, and where their share is not 0 the other parts.

    The parts are those of `split_tasks`, which training and evaluating use too, so `out/train` holds just the learners
    that `WindowDataset(split="train")` would read with the same seed and ratios. Raises as `filter_store` and
    `split_tasks` do.
    """
    for _ in iter_split(store, out, ratios=ratios, seed=seed, profile=profile):
        pass
    return split_tasks(tasks_of([store]), seed=seed, ratios=ratios)


def merge_stores(stores: Sequence[Store], out: StorePath) -> Store:
    """Write a store of all that some stores hold, and open it.

    Every shard is kept as it is. Of several attempts at one learner the rules of visibility choose, as within one
    store; a store merged with itself, or with part of itself, is the same store again.

    Raises:
        SpaceMismatch: the stores differ in their family or spaces, or in their format.
        InvalidValue: another store is at `out`.
        NotAStore: something else is at `out`.
        WriteFailed: the disk refused; the same call completes the store.
    """
    return _last(iter_merged(stores, out), out)


def iter_filtered(
    store: Store, out: StorePath, *, where: Predicate | str, profile: Profile | None = None
) -> Iterator[Progress]:
    """Filter as `filter_store` does, and yield progress."""
    source = _Source(store=store, learners=matching_ids(store, where))
    yield from _iter_written([([source], Path(out))], profile=profile)


def iter_split(
    store: Store,
    out: StorePath,
    *,
    ratios: Sequence[float | int] = DEFAULT_SHARES,
    seed: int = 0,
    profile: Profile | None = None,
) -> Iterator[Progress]:
    """Split as `split_store` does, and yield progress."""
    out = Path(out)
    if (out / DOCUMENT).exists():
        raise InvalidValue(f"{out}: is a store, expected a folder for the parts of the split. Choose another place.")
    split = split_tasks(tasks_of([store]), seed=seed, ratios=ratios)
    parts = []
    for name in ("train", "validation", "test"):
        tasks = {canonical_json(task) for task in split.part(name)}
        learners = frozenset(one.id for one in store.learners if canonical_json(one.spec.task) in tasks)
        if learners:
            parts.append(([_Source(store=store, learners=learners)], out / name))
    yield from _iter_written(parts, profile=profile)


def iter_merged(stores: Sequence[Store], out: StorePath) -> Iterator[Progress]:
    """Merge as `merge_stores` does, and yield progress."""
    for store in stores[1:]:
        _check_mergeable(stores[0], store)
    sources = [_Source(store=store, learners=frozenset(store.status_of())) for store in stores]
    yield from _iter_written([(sources, Path(out))], profile=None)


def _check_mergeable(one: Store, other: Store) -> None:
    for key in ("format_version", *SHARED):
        expected, got = getattr(one.document, key), getattr(other.document, key)
        if expected != got:
            what = key.replace("_", " ")
            raise SpaceMismatch(
                f"{other.place}: has another {what} than {one.place}, expected {canonical_json(expected).decode()}, "
                f"got {canonical_json(got).decode()}. Merge stores that share it."
            )


def _iter_written(targets: Sequence[tuple[Sequence[_Source], Path]], *, profile: Profile | None) -> Iterator[Progress]:
    """Write some stores; first all of them are made, so that one that cannot be is told before any work is done."""
    made = [(_made(out, _document(sources)), sources) for sources, out in targets]
    total = sum(_num_bytes(source) for _, sources in made for source in sources)
    done = 0
    for store, sources in made:
        for source in sources:
            for shard in _shards(source.store):
                name = _put(shard, source, store, profile=profile)
                done += shard.path.stat().st_size
                yield Progress(what=name or shard.path.name, done=done, total=total)
        write_card(open_store(store.path))


def _document(sources: Sequence[_Source]) -> StoreDocument:
    """Return the document of a store that will hold what some sources give; its id follows from that."""
    learners = {
        (learner.id, learner.digest)
        for source in sources
        for learner in source.store.learners
        if learner.id in source.learners
    }
    identity = uuid.uuid5(_NAMESPACE, canonical_json(sorted(learners)).decode())
    for source in sources:
        check_addable(source.store.place, source.store.document, doing="taking from it")
    payload = sources[0].store.document.model_dump(mode="json", exclude={"digest"})
    return StoreDocument(**signed({**payload, "id": str(identity)}))


def _made(out: Path, document: StoreDocument) -> Store:
    """Make a store, or open what an interrupted run left of it."""
    if not (out / DOCUMENT).exists():
        check_free(place_of(out))
        make_folder(out / SHARDS)
        create_file(out / DOCUMENT, canonical_json(document) + b"\n")
    if read_document(place_of(out)) != document:
        raise InvalidValue(
            f"{out}: holds another store, expected nothing or what an interrupted run of this command left. "
            "Choose another place."
        )
    make_folder(out / SHARDS)
    sweep(out / SHARDS)
    return open_store(out, mode="a")


def _put(shard: ShardReader, source: _Source, target: Store, *, profile: Profile | None) -> str | None:
    """Put what a source takes from one shard into a store; return the name of its shard there."""
    rows = [i for i, row in enumerate(shard.learners) if row.learner in source.learners]
    if not rows:
        return None
    _put_checkpoints({shard.learners[i].checkpoint for i in rows}, source.store.path, target.path)
    if len(rows) == len(shard.learners) and is_shard_name(shard.path.name):
        link_file(shard.path, target.path / SHARDS / shard.path.name)
        return shard.path.name
    return put_shard(target, selected(read_tables(shard), rows), shard_format=format_of(shard, profile=profile))


def format_of(shard: ShardReader, *, profile: Profile | None) -> ShardFormat:
    """Return the format of a shard, to write another one like it."""
    return shard_format(format_name(shard.path), profile=profile)


def _put_checkpoints(names: Iterable[str | None], source: Path, target: Path) -> None:
    """Give a store the checkpoints of some learners; the document last, as they were written."""
    for name in names:
        folder = source / CHECKPOINTS / (name or "")
        if name is None or not (folder / CHECKPOINT).exists():
            continue
        make_folder(target / CHECKPOINTS / name)
        for file in sorted(folder.iterdir(), key=lambda path: path.name == CHECKPOINT):
            link_file(file, target / CHECKPOINTS / name / file.name)


def _shards(store: Store) -> Iterator[ShardReader]:
    for index in range(len(store.shard_names)):
        yield store.shard(index)


def _num_bytes(source: _Source) -> int:
    return sum(shard.path.stat().st_size for shard in _shards(source.store))


def _last(progress: Iterator[Progress], out: StorePath) -> Store:
    """Do everything, and open what it made."""
    for _ in progress:
        pass
    return open_store(out)
