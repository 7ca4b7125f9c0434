"""Does a store keep its promises? Every file of it, to the last byte.

File names are checked against contents, documents against their digests, tables against steps, learners' digests
against everything that was recorded; or less of that, for a quicker answer (`Depth`). Nothing is written, and nothing
derived is trusted.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Generator, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from historystore.attempt_check import Part, attempt_problems, parts_of, row_problems
from historystore.card import CARD, is_card_whole
from historystore.catalog import catalog, summary
from historystore.checkpoints import DOCUMENT as CHECKPOINT
from historystore.checkpoints import CheckpointDocument
from historystore.documents import StoreDocument, canonical_json, is_signed, parse_document, parse_json
from historystore.errors import DamagedData, InvalidValue, NotAStore, StoreNotFound
from historystore.files import is_temporary
from historystore.folder import CHECKPOINTS, DOCUMENT, INDEX, SHARDS
from historystore.index import LOST, Index, read_index
from historystore.index import SHARDS as INDEXED_SHARDS
from historystore.places import Place, StorePath, place_of
from historystore.problems import Problem, guarded
from historystore.remote import RemotePlace
from historystore.remote.mirror import mirror
from historystore.replay import learner_digest
from historystore.shard_check import contradictions, damage, notes, sha256_of, unlike_header
from historystore.shards import ShardReader, open_shard, suffixes
from historystore.shards.protocol import is_shard_name
from historystore.store import Store
from historystore.visible import superseded, visible_learners, visible_shards

Depth = Literal["structure", "checksums", "semantics"]
"""How far a check goes, each as far as the one before it and further.

`structure`: names, documents, headers, and whether the small tables and the steps' shapes agree with them; neither
steps nor checkpoints are read. `checksums`: every byte, against names, digests and the checksums inside of shards.
`semantics`: what the data say: episodes against flags and rewards, steps without a gap, values against spaces, and
learners' digests, all computed anew.
"""
DEPTHS: tuple[Depth, ...] = ("structure", "checksums", "semantics")
_MAY_BE_LOST = ("segments", "updates")
"""What an attempt lacks where the shard that held it is too damaged to say so."""
_CHANGED = "does not hold what was written to it. Restore it from a copy."


class Checked(BaseModel):
    """How far a check has come, and what it has found on the way there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    """What was looked at."""
    done: int
    total: int
    """Bytes of shards, each counted once for its name and once for its contents."""
    problems: tuple[Problem, ...] = ()


def verify(path: StorePath | Place, *, depth: Depth = "semantics") -> Iterator[Problem]:
    """Yield every problem of a store, or of one shard, with its place.

    Reads every byte, unless `depth` is ``"structure"``. Notes (`is_note`) break no promise: files that do not belong,
    what a killed recorder left behind.

    Raises:
        StoreNotFound: nothing is there.
        NotAStore: something else is there.
        InvalidValue: there is no such depth.
    """
    for checked in iter_checked(path, depth=depth):
        yield from checked.problems


def iter_checked(path: StorePath | Place, *, depth: Depth = "semantics") -> Iterator[Checked]:
    """Check a store as `verify` does, and yield progress as well.

    A remote store is copied first, into a folder for as long as this takes: what is checked is what the server has.
    """
    if depth not in DEPTHS:
        raise InvalidValue(f"depth: there is no {depth!r}, expected one of {', '.join(DEPTHS)}. Choose one.")
    place = place_of(path)
    if isinstance(place, RemotePlace):
        yield from _iter_remote(place, depth=depth)
        return
    path = place.path
    if not path.exists():
        raise StoreNotFound(f"{path}: there is nothing. Check the path; hist inspect lists the stores of a folder.")
    if path.is_file():
        yield from _iter_shards([path], folder=path.parent, store=None, depth=depth)
        return
    if not (path / DOCUMENT).exists() and not (path / SHARDS).is_dir():
        raise NotAStore(f"{path}: is no store, it has no {DOCUMENT}. Check the path; hist inspect lists those there.")
    shards = sorted(one for one in (path / SHARDS).glob("*") if is_shard_name(one.name))
    total = 2 * sum(_size(one) for one in shards)
    document, problems = _document(path)
    problems += [*_misnamed(path), *_card_problems(path)]
    problems += _notes(path, path, (DOCUMENT, INDEX, CARD, SHARDS, CHECKPOINTS))
    problems += _notes(path, path / SHARDS, {one.name for one in shards})
    yield Checked(what=DOCUMENT, done=0, total=total, problems=tuple(problems))
    readers = yield from _iter_shards(shards, folder=path, store=document, depth=depth)
    named = {learner.row.checkpoint for learner in visible_learners(map(summary, readers))}
    problems = [*_checkpoint_problems(path, named, depth), *_index_problems(path, shards, readers)]
    if depth == "semantics":
        problems += _continued_problems(path, document, readers)
    yield Checked(what=INDEX, done=total, total=total, problems=tuple(problems))


def _iter_remote(place: RemotePlace, *, depth: Depth) -> Iterator[Checked]:
    """Copy a remote store and check the copy."""
    with mirror(place) as copy:
        total, done = 3 * copy.num_bytes, 0
        for name, num_bytes in copy.iter_copied():
            done += num_bytes
            yield Checked(what=f"fetching {name}", done=done, total=total)
        for checked in iter_checked(copy.path, depth=depth):
            yield checked.model_copy(update={"done": min(done + checked.done, total), "total": total})


def _iter_shards(
    paths: Sequence[Path], *, folder: Path, store: StoreDocument | None, depth: Depth
) -> Generator[Checked, None, list[ShardReader]]:
    """Check each shard by itself, then every attempt over all shards; return the readable shards."""
    total, done = 2 * sum(_size(path) for path in paths), 0
    readers: list[ShardReader] = []
    losses = _Losses()
    for path in paths:
        problems = _shard_problems(path, str(path.relative_to(folder)), store, depth)
        if all(problem.is_note for problem in problems):
            readers.append(open_shard(path))
        else:
            losses.add(path)
        done += _size(path)
        yield Checked(what=path.name, done=done, total=total, problems=tuple(problems))
    attempts = _attempts(readers, folder)
    num_parts, start, num_done = max(1, sum(map(len, attempts))), done, 0
    nothing: list[Part] = []
    for parts, following in itertools.zip_longest(attempts, attempts[1:], fillvalue=nothing):
        problems = _attempt_problems(parts, losses, depth)
        num_done += len(parts)
        done = start + (total - start) * num_done // num_parts
        yield Checked(what=f"learner {parts[0].row.learner[:12]}", done=done, total=total, problems=tuple(problems))
        for part in parts:
            if part.file not in {other.file for other in following}:
                part.reader.close()
    return [reader for reader in readers if str(reader.path.relative_to(folder)) not in losses.files]


class _Losses:
    """What damaged shards held, so that what is missing elsewhere because of them is not told again."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        """Damaged in their steps alone, found when these were read."""
        self.attempts: set[tuple[str, str]] = set()
        self.is_known = True
        """Whether all attempts in damaged shards are known by name."""

    def add(self, path: Path) -> None:
        """Look up whose steps a damaged shard held, if it still says so."""
        problems: list[Problem] = []
        with guarded(problems, path.name):
            reader = open_shard(path)
            self.attempts |= {(row.learner, row.attempt) for row in reader.learners}
            reader.close()
        self.is_known &= not problems


def _document(path: Path) -> tuple[StoreDocument | None, list[Problem]]:
    """Return `store.json` if it is whole, and what is wrong with it if not."""
    problems: list[Problem] = []
    with guarded(problems, DOCUMENT):
        data = (path / DOCUMENT).read_bytes()
        document = parse_document(StoreDocument, data, where=DOCUMENT)
        if is_signed(parse_json(data, where=DOCUMENT)) and data == canonical_json(document) + b"\n":
            return document, problems
        message = "does not hold what was written to it. Restore it from a copy, or from the header of any shard."
        problems.append(Problem(file=DOCUMENT, message=message))
    return None, problems


def _shard_problems(path: Path, file: str, store: StoreDocument | None, depth: Depth) -> list[Problem]:
    """Check a shard by itself. Damaged bytes are looked into only to say where the damage lies."""
    problems: list[Problem] = []
    is_read = depth != "structure"
    with guarded(problems, file):
        name = path.name.partition(".")[0]
        if is_read and is_shard_name(path.name) and sha256_of(path) != name:
            problems.append(Problem(file=file, message=f"is not named by its SHA-256: it {_CHANGED}"))
        reader = open_shard(path)
        problems += damage(reader, file) if is_read else unlike_header(reader, file)
        if not problems:
            problems += contradictions(reader, file, store)
        if not problems and depth == "semantics":
            problems += notes(reader, file)
        reader.close()
    return problems


def _attempts(readers: Sequence[ShardReader], folder: Path) -> list[list[Part]]:
    """Return the parts of each attempt, by shard.

    Shards that another one replaces are not read further, nor attempts that a complete one has superseded: compacting
    takes those away, one shard after the other.
    """
    attempts: dict[tuple[str, str], list[Part]] = {}
    summaries = [summary(reader) for reader in readers]
    shown, gone = {shard.name for shard in visible_shards(summaries)}, superseded(summaries)
    for reader in readers:
        if reader.path.name in shown:
            for part in parts_of(reader, str(reader.path.relative_to(folder))):
                if (part.row.learner, part.row.attempt) not in gone:
                    attempts.setdefault((part.row.learner, part.row.attempt), []).append(part)
        reader.close()
    return sorted(attempts.values(), key=lambda parts: [part.file for part in parts])


def _attempt_problems(parts: Sequence[Part], losses: _Losses, depth: Depth) -> list[Problem]:
    """Check one attempt, unless part of it lies in a shard whose damage was told."""
    problems: list[Problem] = []
    row = parts[0].row
    if (row.learner, row.attempt) in losses.attempts or losses.files & {part.file for part in parts}:
        return problems
    with guarded(problems, parts[-1].file):
        try:
            problems += attempt_problems(parts) if depth == "semantics" else row_problems(parts)
        except DamagedData:
            found = [problem for part in parts for problem in damage(part.reader, part.file)]
            losses.files |= {problem.file for problem in found}
            problems += found
    if losses.is_known:
        return problems
    return [p.model_copy(update={"is_note": p.is_note or p.field in _MAY_BE_LOST}) for p in problems]


def _continued_problems(path: Path, document: StoreDocument | None, readers: Sequence[ShardReader]) -> list[Problem]:
    """Compare the digests of visible attempts that continue others with what anyone reads of them."""
    problems: list[Problem] = []
    files = {
        (row.learner, row.attempt): f"{SHARDS}/{reader.path.name}"
        for reader in readers
        for row in reader.learners
        if row.continues is not None
    }
    if document is None or not files:
        return problems
    with guarded(problems, SHARDS):
        names, index = [reader.path.name for reader in readers], Index.of(catalog(readers))
        store = Store(path, document=document, shard_names=names, mode="r", index=index)
        for learner in store.learners:
            file = files.get((learner.id, learner.row.attempt))
            if file is not None and learner.digest != (digest := learner_digest(learner)):
                digests = f"its digest is {learner.digest[:12]}, its data have {digest[:12]}"
                message = f"learner {learner.id[:12]}: {digests}."
                problems.append(Problem(file=file, field="learners", message=message))
        store.close()
    return problems


def _checkpoint_problems(path: Path, named: Collection[str | None], depth: Depth) -> Iterator[Problem]:
    """Check the checkpoints that are there, and that those which visible learners name are.

    What an earlier seal named was one on the way, which the recorder has removed since.
    """
    check = _absence_problems if depth == "structure" else _hash_problems
    there = {folder.name for folder in (path / CHECKPOINTS).glob("*") if (folder / CHECKPOINT).exists()}
    for name in sorted(name for name in named if name is not None and name not in there):
        yield Problem(
            file=f"{CHECKPOINTS}/{name}", message="is missing, though a learner names it. Restore it from a copy."
        )
    for name in sorted(there):
        file = f"{CHECKPOINTS}/{name}/{CHECKPOINT}"
        problems: list[Problem] = []
        with guarded(problems, file):
            yield from check(path, file, name)
            files = parse_document(CheckpointDocument, (path / file).read_bytes(), where=file).files
            for one, digest in files.items():
                yield from check(path, f"{CHECKPOINTS}/{name}/{one}", digest)
            yield from _notes(path, path / CHECKPOINTS / name, {CHECKPOINT, *files})
        yield from problems


def _absence_problems(path: Path, file: str, _digest: str) -> Iterator[Problem]:
    if not (path / file).is_file():
        yield Problem(file=file, message="is missing. Restore it from a copy.")


def _hash_problems(path: Path, file: str, digest: str) -> Iterator[Problem]:
    problems: list[Problem] = []
    with guarded(problems, file):
        if sha256_of(path / file) != digest:
            problems.append(Problem(file=file, message=_CHANGED))
    yield from problems


def _card_problems(path: Path) -> Iterator[Problem]:
    problems: list[Problem] = []
    with guarded(problems, CARD):
        if (path / CARD).exists() and not is_card_whole((path / CARD).read_bytes()):
            message = (
                "does not hold what was written to it. It is derived: delete it, and the next recording writes it "
                "anew; keep text of your own in another file."
            )
            problems.append(Problem(file=CARD, message=message))
    yield from problems


def _index_problems(path: Path, shards: Sequence[Path], readers: Sequence[ShardReader]) -> list[Problem]:
    """Check the index against the shards; a missing or stale one is made when the store is opened."""
    problems: list[Problem] = []
    if not (path / INDEX).exists():
        return problems
    index = read_index(path / INDEX)
    if index is None:
        message = "does not hold what was written to it. It is derived: delete it, and the next opening makes it anew."
        return [Problem(file=INDEX, message=message)]
    with guarded(problems, INDEX):
        known, there = set(index.json(INDEXED_SHARDS)), {shard.name for shard in shards}
        lost = catalog(readers, known={*known, *index.json(LOST)} - there)[LOST]
        gone = f"is gone: its steps are lost. Restore it from a copy, or delete {INDEX} to do without it."
        problems += [Problem(file=f"{SHARDS}/{name}", message=gone) for name in lost]
        if known != there:
            stale = "was made from other shards than those here. The next opening makes it anew."
            problems.append(Problem(file=INDEX, message=stale, is_note=True))
        elif len(readers) == len(shards) and not index.equals(Index.of(catalog(readers, known=lost))):
            message = "is not what the shards say. It is derived: delete it, and the next opening makes it anew."
            problems.append(Problem(file=INDEX, message=message))
    return problems


def _misnamed(path: Path) -> Iterator[Problem]:
    """Yield the shards that nobody reads, because they are not named by their SHA-256."""
    for one in sorted((path / SHARDS).glob("*")):
        if one.suffix in suffixes() and not is_shard_name(one.name):
            message = "is not named by its SHA-256, so nobody reads it. Give it its name back, or move it away."
            yield Problem(file=f"{SHARDS}/{one.name}", message=message)


def _notes(path: Path, folder: Path, known: Collection[str]) -> Iterator[Problem]:
    """Yield a note for each file of a folder that is no part of the store; hidden ones are none of our business."""
    for one in sorted(folder.glob("*")):
        file = str(one.relative_to(path))
        if is_temporary(one.name):
            message = "is being written, or was left by a recorder that was killed; the next one sweeps it away."
            yield Problem(file=file, message=message, is_note=True)
        elif one.name not in known and not one.name.startswith(".") and one.suffix not in suffixes():
            yield Problem(file=file, message="is no part of the store.", is_note=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
