"""Moving learners between a store and a foreign format, a block at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from historystore.card import write_card
from historystore.errors import HistoryError, InvalidValue, StoreNotFound
from historystore.exchange.protocol import Block, ExchangeReport, ForeignLearner, Moved, Progress
from historystore.exchange.registry import exporter, importer
from historystore.exchange.staging import staged
from historystore.learner_writer import LearnerWriter
from historystore.learners import Learner
from historystore.parts import Update
from historystore.places import StorePath
from historystore.store import create
from historystore.store import open as open_store
from historystore.writer import StoreWriter

T = TypeVar("T")


def iter_exported(source: StorePath, out: StorePath, *, to: str) -> Iterator[Progress | ExchangeReport]:
    """Write a store's visible learners in a foreign format; give the progress, and the report at the end.

    `out` appears when everything is in it; an export that fails, or is not exhausted, leaves nothing.

    Raises:
        InvalidValue: the format is unknown, cannot hold what the store holds, or something is at `out`.
        MissingExtra: the format's package is not installed.
        WriteFailed: the disk refused.
    """
    writer, store, tally = exporter(to), open_store(source), _Tally()
    with staged(Path(out)) as place:
        for moved in writer.write(store, place):
            yield tally.add(moved, total_steps=store.num_steps)
    yield tally.report(source=source, target=out, format_name=to, lost=writer.lost)


def iter_imported(source: StorePath, target: StorePath, *, of: str) -> Iterator[Progress | ExchangeReport]:
    """Make learners of a foreign format part of a store, made if absent; give the progress, and the report at the end.

    Learners that the store has already are skipped, so that the same import again does the rest.

    Raises:
        StoreNotFound: nothing is at the source.
        InvalidValue: the format is unknown, or the source is not written in it.
        SpaceMismatch: the store is there, of another family or other spaces.
        MissingExtra: the format's package is not installed.
        WriteFailed: the disk refused.
    """
    reader, place, tally = importer(of), Path(source), _Tally()
    if not place.exists():
        raise StoreNotFound(f"{source}: there is nothing to import. Check the path.")
    with _reading(place):
        foreign = reader.read(place)
    spaces = {"observation_space": foreign.observation_space, "action_space": foreign.action_space}
    with StoreWriter(create(target, family=foreign.family, **spaces)) as writer:
        yield tally.add(Moved(notes=foreign.notes), total_steps=foreign.total_steps)
        for moved in _iter_written(writer, _iter_read(foreign.learners, place), place):
            yield tally.add(moved, total_steps=foreign.total_steps)
    write_card(open_store(target))
    yield tally.report(source=source, target=target, format_name=of, lost=reader.lost)


def _add_block(learner: LearnerWriter, block: Block) -> None:
    """Add a block's steps to a learner."""
    is_end = block.steps["terminated"] | block.steps["truncated"]  # (steps, streams)
    learner.add_steps(
        block.steps,
        final_observations={name: column[is_end] for name, column in block.following.items()},
        # Behind an end nobody asks for it: the next block says what the next episode begins with.
        next_observation={name: column[-1] for name, column in block.following.items()},
        episode_seeds=block.seeds,
    )


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What was moved so far."""

    num_learners: int = 0
    num_skipped: int = 0
    num_steps: int = 0
    notes: dict[str, None] = field(default_factory=dict)

    def add(self, moved: Moved, *, total_steps: int) -> Progress:
        """Count what was moved; return how far it is."""
        self.num_learners += moved.num_learners
        self.num_skipped += moved.num_skipped
        self.num_steps += moved.num_steps
        self.notes |= dict.fromkeys(moved.notes)
        return Progress(num_steps=self.num_steps, total_steps=total_steps)

    def report(
        self, *, source: StorePath, target: StorePath, format_name: str, lost: tuple[str, ...]
    ) -> ExchangeReport:
        """Return the sums."""
        return ExchangeReport(
            source=str(source),
            target=str(target),
            format=format_name,
            num_learners=self.num_learners,
            num_skipped=self.num_skipped,
            num_steps=self.num_steps,
            lost=lost,
            notes=tuple(self.notes),
        )


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    """Turn whatever foreign bytes provoke in the libraries that parse them into one line."""
    try:
        yield
    except HistoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidValue(
            f"{source}: cannot be read, {reason}. Check that it is whole, and of this format."
        ) from error


def _iter_read(items: Iterable[T], source: Path) -> Iterator[T]:
    """Give what is read from a foreign source."""
    iterator = iter(items)
    while True:
        with _reading(source):
            item = next(iterator, None)
        if item is None:
            return
        yield item


def _iter_written(writer: StoreWriter, learners: Iterator[ForeignLearner], source: Path) -> Iterator[Moved]:
    """Write the learners that the store lacks."""
    store = writer.store
    shown = {learner.id: learner for learner in store.learners}
    attempts = {row.attempt for i in range(len(store.shard_names)) for row in store.shard(i).learners}
    for foreign in learners:
        if _is_there(shown.get(foreign.spec.id), foreign):
            yield Moved(num_skipped=1)
        else:
            yield from _iter_learner(writer, foreign, attempts, source)


def _is_there(shown: Learner | None, foreign: ForeignLearner) -> bool:
    if shown is None:
        return False
    return shown.status == "complete" or shown.digest == foreign.digest


def _iter_learner(writer: StoreWriter, foreign: ForeignLearner, attempts: set[str], source: Path) -> Iterator[Moved]:
    """Write one learner, under the attempt that it was recorded as unless the store holds part of that already."""
    is_held = foreign.original is not None and foreign.original.attempt in attempts
    original = None if is_held else foreign.original
    learner = writer.begin(foreign.spec, provenance=foreign.provenance, original=original)
    updates, moved = deque(_iter_read(foreign.updates, source)), Moved()
    for block in _iter_read(foreign.blocks, source):
        yield moved  # not behind the last block: nobody stops between that and the end
        _add_block(learner, block)
        _add_updates(learner, updates, stop=learner.num_steps)
        moved = Moved(num_steps=block.steps["reward"].size)
    _add_updates(learner, updates)
    if foreign.status != "partial":
        learner.finish(status=foreign.status, error=foreign.error)
    is_same = foreign.digest in (None, learner.part().row.digest)
    yield moved
    yield Moved(num_learners=1, notes=() if is_same else (_other_digest(foreign.spec.id),))


def _add_updates(learner: LearnerWriter, updates: deque[Update], *, stop: int | None = None) -> None:
    """Add the updates up to a step, so that whatever is sealed so far has those that belong to it."""
    while updates and (stop is None or updates[0].step <= stop):
        update = updates.popleft()
        learner.add_update(
            step=update.step,
            values=update.values,
            learning_rate=update.learning_rate,
            wall_time_s=update.wall_time_s,
        )


def _other_digest(learner: str) -> str:
    return f"learner {learner[:12]} has another digest than when it was exported: not all of it came back."
