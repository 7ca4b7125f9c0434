"""Saving what can be read of a damaged store into a new one, and saying exactly what cannot.

Shards that are whole, and all of whose learners are, are carried over as they are. Of the others each learner's steps
are taken up to the first that cannot be read (`historystore.salvage`); a learner that loses something becomes partial,
so that recording into the new store completes it. The damaged store is never written to.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from historystore.card import write_card
from historystore.checkpoints import named_checkpoints, read_checkpoint, write_checkpoint
from historystore.documents import LearnerRow, StoreDocument, canonical_json, parse_json
from historystore.errors import DamagedData, HistoryError, NewerFormat, NotAStore, StoreNotFound
from historystore.files import create_file, link_file, make_folder, sweep
from historystore.folder import CHECKPOINTS, DOCUMENT, INDEX, SHARDS, check_free, read_document
from historystore.index import read_index
from historystore.lineage import Attempts, Parts, attempts_of, begun_walk, shown, with_proven_segments
from historystore.losses import Loss, Recovered
from historystore.places import place_of
from historystore.problems import Problem, guarded
from historystore.salvage import AttemptWalk, Salvaged
from historystore.shards import FormatName, ShardTables, open_shard, shard_format
from historystore.shards.protocol import is_shard_name
from historystore.store import Store
from historystore.store import open as open_store
from historystore.wreck import Wreck, WreckPart, kept_tables, open_wreck, tables_of
from historystore.writer import put_shard

_Why = tuple[str | None, tuple[str, ...]]
_FORMATS: Mapping[str, FormatName] = {".h5": "hdf5", ".arrow": "arrow"}


def recover(source: str | os.PathLike[str], out: str | os.PathLike[str]) -> Iterator[Recovered]:
    """Save what can be read of a store into a new one, and yield how far it is and what is lost.

    Whole shards become hard links where the disk allows it, copies elsewhere. `store.json` is written last: what a
    crash leaves is no store, and the same call begins anew. Memory holds one learner's part of a shard at a time, and
    the small tables of all its shards.

    Raises:
        StoreNotFound: nothing is at `source`.
        NotAStore: something else is there, or something is at `out`.
        NewerFormat: this version cannot read it.
        DamagedData: no shard and no document says what the store is.
        WriteFailed: the disk refused.
    """
    source, out = Path(source), Path(out)
    if not source.exists():
        raise StoreNotFound(f"{source}: there is nothing. Check the path.")
    if not (source / SHARDS).is_dir():
        raise NotAStore(f"{source}: is no store, it has no {SHARDS}. Give the folder of a store.")
    if (out / DOCUMENT).exists():
        raise NotAStore(f"{out}: there is a store already. Choose a new or empty folder.")
    if source.resolve() in out.resolve().parents:
        raise NotAStore(f"{out}: lies in the damaged store, which is not written to. Choose a folder elsewhere.")
    check_free(place_of(out))
    yield from _Rescue(source, out).run()


class _Rescue:
    """One recovery, under way."""

    def __init__(self, source: Path, out: Path) -> None:
        self._source, self._out = source, out
        self._paths = sorted(path for path in (source / SHARDS).iterdir() if is_shard_name(path.name))
        self._total = 2 * sum(path.stat().st_size for path in self._paths)
        self._done, self._num_whole, self._num_rewritten = 0, 0, 0
        self._losses: list[Loss] = []
        self._kept: set[tuple[str, int]] = set()
        """The learners, by shard and row, that can be carried over as they are."""
        self._proven: set[tuple[str, int]] = set()
        """Those that lose nothing, though a table had to be made anew."""
        self._lost_checkpoints: set[str] = set()

    def run(self) -> Iterator[Recovered]:
        """Recover."""
        document = self._document()
        make_folder(self._out / SHARDS)
        sweep(self._out / SHARDS)
        for left in (self._out / SHARDS).iterdir():
            if is_shard_name(left.name):
                left.unlink()
        self._target = Store(self._out, document=document, shard_names=(), mode="a")
        yield self._state(DOCUMENT)
        wrecks = yield from self._opened(document)
        self._copy_checkpoints(wrecks)
        attempts = attempts_of(wrecks)
        known = _indexed_rows(self._source)
        nothing: Parts = []
        for parts, following in itertools.zip_longest(attempts.values(), [*attempts.values()][1:], fillvalue=nothing):
            row = parts[0].row
            self._save(attempts, parts, known.pop((row.learner, row.attempt), None))
            self._done += sum(part.wreck.path.stat().st_size // len(part.wreck.reader.learners) for part in parts)
            yield self._state(f"learner {row.learner[:12]}")
            for wreck in {part.wreck for part in parts} - {part.wreck for part in following}:
                wreck.close()
        for row in known.values():
            self._lose_all(row)
        for wreck in wrecks:
            self._carry_over(wreck)
        create_file(self._out / DOCUMENT, canonical_json(document) + b"\n")
        write_card(open_store(self._out))
        self._done = self._total
        yield self._state(str(self._out))

    def _state(self, what: str) -> Recovered:
        """Return how far it is, with the losses found since the last time."""
        losses, self._losses = tuple(self._losses), []
        counts = {"num_whole": self._num_whole, "num_rewritten": self._num_rewritten}
        return Recovered(what=what, done=min(self._done, self._total), total=self._total, losses=losses, **counts)

    def _document(self) -> StoreDocument:
        """Return what the store is: as it says, or else as most of its shards do."""
        try:
            return read_document(place_of(self._source))
        except NewerFormat:
            raise
        except HistoryError as error:
            problem = error
        found: Counter[bytes] = Counter()
        for path in self._paths:
            with guarded([], path.name):
                found[canonical_json(open_shard(path).header.store)] += 1
        if not found:
            raise DamagedData(f"{self._source}: no shard says what it is, and {problem}")
        message = (
            "does not hold what was written to it. It was made anew from the headers of the shards: nothing is lost."
        )
        self._losses.append(Loss(what="document", file=DOCUMENT, message=message))
        return StoreDocument.model_validate_json(found.most_common(1)[0][0])

    def _opened(self, document: StoreDocument) -> Generator[Recovered, None, list[Wreck]]:
        """Open all shards as far as possible; return those that show."""
        wrecks: dict[str, Wreck] = {}
        unreadable: dict[str, Problem] = {}
        for path in self._paths:
            problems: list[Problem] = []
            with guarded(problems, file := f"{SHARDS}/{path.name}"):
                wrecks[path.name] = open_wreck(path, file, document)
            if problems:
                unreadable[path.name] = problems[0]
            self._done += path.stat().st_size
            yield self._state(path.name)
        wrecks_shown = shown(wrecks)
        replaced = {name for wreck in wrecks_shown for name in wreck.reader.header.replaces}
        for name, problem in unreadable.items():
            if name not in replaced:
                message = f"nothing of it counts: {problem.message}"
                self._losses.append(Loss(what="shard", file=problem.file, message=message))
        return wrecks_shown

    def _copy_checkpoints(self, wrecks: Sequence[Wreck]) -> None:
        for name in sorted(named_checkpoints(row for wreck in wrecks for row in wreck.reader.learners)):
            problems: list[Problem] = []
            file = f"{CHECKPOINTS}/{name}"
            with guarded(problems, file):
                checkpoint = read_checkpoint(self._source, name)
            if not problems:
                write_checkpoint(self._out, *checkpoint)
                continue
            self._lost_checkpoints.add(name)
            message = f"the checkpoint is lost: {problems[0].message}"
            self._losses.append(Loss(what="checkpoint", file=file, message=message))

    def _save(self, attempts: Attempts, parts: Parts, indexed: LearnerRow | None) -> None:
        """Save what is left of one attempt: note the parts that can be carried over, and write the others anew."""
        parts = with_proven_segments(attempts, parts)
        walk = begun_walk(attempts, parts)
        why: dict[int, _Why] = {}
        for number, part in enumerate(parts):
            if walk is None:
                break
            salvaged = walk.add(part)
            if salvaged.is_whole:
                self._proven.add((part.wreck.file, part.owner))
            for stream, fields in salvaged.why.items():
                if stream not in why:
                    why[stream] = (part.wreck.file if fields else None, fields)
            self._put(part, self._without_lost_checkpoint(salvaged), is_first=number == 0)
        self._note_losses(walk, parts, indexed, why)

    def _without_lost_checkpoint(self, salvaged: Salvaged) -> Salvaged:
        """Make a learner partial whose checkpoint is lost, so that recording makes it anew."""
        if salvaged.row.checkpoint not in self._lost_checkpoints:
            return salvaged
        row = salvaged.row.model_copy(update={"checkpoint": None, "status": "partial"})
        return replace(salvaged, row=row)

    def _put(self, part: WreckPart, salvaged: Salvaged, *, is_first: bool) -> None:
        """Keep a part that is whole where it is, and put what is left of another into a shard of its own."""
        if salvaged.row == part.row and not part.wreck.unreadable:
            self._kept.add((part.wreck.file, part.owner))
            return
        has_news = salvaged.num_steps or salvaged.num_updates or salvaged.is_whole
        if has_news or (is_first and part.row.continues is None):
            header = part.wreck.reader.header
            self._write(part.wreck, tables_of(self._target.document, header, salvaged.row, salvaged.tables))

    def _carry_over(self, wreck: Wreck) -> None:
        """Carry over what a shard holds of learners that lose nothing in it: the whole file if that is all of them."""
        owners = [owner for owner in range(len(wreck.reader.learners)) if (wreck.file, owner) in self._kept]
        if wreck.is_whole and len(owners) == len(wreck.reader.learners):
            link_file(wreck.path, self._out / wreck.file)
            self._num_whole += 1
        elif owners:
            self._write(wreck, kept_tables(self._target.document, wreck, owners))
        wreck.close()

    def _write(self, wreck: Wreck, tables: ShardTables) -> None:
        put_shard(self._target, tables, shard_format=shard_format(_FORMATS[wreck.path.suffix]))
        self._num_rewritten += 1

    def _note_losses(
        self, walk: AttemptWalk | None, parts: Parts, indexed: LearnerRow | None, why: Mapping[int, _Why]
    ) -> None:
        """Say what an attempt should have and does not."""
        num_told = len(self._losses)
        rows = [parts[-1].row, *([] if indexed is None else [indexed])]
        begun = 0 if rows[0].continues is None else rows[0].continues.step
        names = {"learner": rows[0].learner, "attempt": rows[0].attempt}
        for stream, stop in enumerate(np.max([row.num_steps for row in rows], axis=0).tolist()):
            start = begun if walk is None else walk.num_steps[stream]
            file, fields = why.get(stream, (None, ()))
            if start < stop:
                message = f"steps {start} to {stop} are lost: {_reason(fields)}"
                rows_lost = {"stream": stream, "rows": (start, stop)}
                self._losses.append(Loss(what="steps", file=file, fields=fields, message=message, **names, **rows_lost))
        num_updates, stop = 0 if walk is None else walk.num_updates, max(row.num_updates for row in rows)
        if num_updates < stop:
            message = f"updates {num_updates} to {stop} are lost: they cannot be read, or act from lost steps on."
            self._losses.append(Loss(what="updates", rows=(num_updates, stop), message=message, **names))
        for part in parts:
            if "episodes" in part.wreck.unreadable and (part.wreck.file, part.owner) not in self._proven:
                message = (
                    "the episodes were made anew from flags and rewards, but seeds that stood there alone are lost."
                )
                self._losses.append(Loss(what="seeds", file=part.wreck.file, message=message, **names))

        if len(self._losses) == num_told and (parts[-1].wreck.file, parts[-1].owner) not in self._proven:
            message = "everything is there, but is not what the digest says: something of it was never written so."
            self._losses.append(Loss(what="digest", file=parts[-1].wreck.file, message=message, **names))

    def _lose_all(self, row: LearnerRow) -> None:
        """Say that nothing is left of an attempt that the index knows."""
        names = {"learner": row.learner, "attempt": row.attempt}
        for stream, stop in enumerate(row.num_steps):
            message = f"all {stop} steps are lost: {_reason(())}"
            self._losses.append(Loss(what="steps", stream=stream, rows=(0, stop), message=message, **names))


def _reason(fields: Sequence[str]) -> str:
    if not fields:
        return "they lie in no shard that can be read."
    return f"{', '.join(fields)} cannot be read there."


def _indexed_rows(source: Path) -> dict[tuple[str, str], LearnerRow]:
    """Return the learners that the index knows, if it is whole: it may remember what no shard says any more."""
    index = read_index(source / INDEX)
    if index is None:
        return {}
    data, start = index.array("learner_row").tobytes(), index.array("learner_row_start").tolist()
    texts = [data[first:last] for first, last in itertools.pairwise(start)]
    rows = [LearnerRow.model_validate(parse_json(text, where=INDEX)) for text in texts]
    return {(row.learner, row.attempt): row for row in rows}
