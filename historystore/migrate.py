"""Bringing a store to this version of the format, in place, one step at a time.

A step writes each shard anew beside the old one, which the new one's header `replaces`; then `store.json`; then it
deletes the old shards. Whenever it is broken off, the store opens and shows the same, and the same call goes on. The
disk holds the shards twice until a step is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from historystore.card import CARD, write_card
from historystore.documents import ShardHeader, canonical_json, is_of_older_major, sha256_hex
from historystore.errors import DamagedData, OlderFormat
from historystore.files import remove_files, replace_file, sweep
from historystore.folder import DOCUMENT, SHARDS, read_document, shard_names
from historystore.migrations import step_from
from historystore.migrations.step import Step
from historystore.places import LocalPlace, StorePath, place_of
from historystore.replay import learner_digest
from historystore.shard_check import sha256_of
from historystore.shards import open_shard
from historystore.store import Store
from historystore.store import open as open_store


class PlannedStep(BaseModel):
    """One step that a migration would take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    from_version: str
    to_version: str
    num_shards: int
    """Shards to write anew; the old ones are deleted in the end."""
    num_bytes: int
    """About what the new ones take: the size of the old ones."""


class Migrated(BaseModel):
    """How far a migration has come."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: PlannedStep
    done: int
    total: int
    """Bytes of shards, each counted once for writing it anew and once for comparing what it holds."""


def planned_steps(path: StorePath) -> tuple[PlannedStep, ...]:
    """Return the steps from a store's version of the format to this one; none if it is there already.

    Raises:
        InvalidValue: it is remote.
        StoreNotFound: nothing is there.
        NotAStore: something else is there.
        OlderFormat: no step leads on from its version.
    """
    steps: list[PlannedStep] = []
    state = _State(open_store(path).place.path)
    version = state.version
    while is_of_older_major(version):
        step = step_from(version, where=str(path))
        shards = state.visible if steps else state.shards_of(version)
        sizes = [shard.stat().st_size for shard in shards]
        planned = PlannedStep(
            from_version=version, to_version=step.to_version, num_shards=len(sizes), num_bytes=sum(sizes)
        )
        steps.append(planned)
        version = step.to_version
    return tuple(steps)


def migrate(path: StorePath) -> Iterator[Migrated]:
    """Bring a store to this version of the format, and yield how far that is; a store that is there is left alone.

    Reads every shard whole, and after each step everything that shows once more, to compare digests before an old
    shard is deleted. Record nothing into the store meanwhile.

    Raises:
        InvalidValue: it is remote.
        StoreNotFound: nothing is there.
        NotAStore: something else is there.
        OlderFormat: no step leads on from its version, or an older version still adds to it.
        DamagedData: a shard is damaged, or a learner's digest is not what it was; the store shows what it showed.
        WriteFailed: the disk refused.
    """
    for planned in planned_steps(path):
        yield from _stepped(place_of(path).path, planned)


class _State:
    """The shards of a store and their versions, as of now."""

    def __init__(self, path: Path) -> None:
        self.shards = [path / SHARDS / name for name in shard_names(LocalPlace(path))]
        headers = {shard: _header(shard) for shard in self.shards}
        self.versions = {shard: header.format_version for shard, header in headers.items()}
        replaced = {name for header in headers.values() for name in header.replaces}
        self.visible = [shard for shard in self.shards if shard.name not in replaced]
        self.version = min((read_document(LocalPlace(path)).format_version, *self.versions.values()), key=_as_numbers)
        """The earliest of all."""

    def shards_of(self, version: str, *, hidden: bool = False) -> list[Path]:
        """Return the shards of one version: the visible ones, or hidden ones as well."""
        return [shard for shard in (self.shards if hidden else self.visible) if self.versions[shard] == version]


def _stepped(path: Path, planned: PlannedStep) -> Iterator[Migrated]:
    """Take one step."""
    step, state, store = step_from(planned.from_version, where=str(path)), _State(path), open_store(path)
    digests = {learner.id: learner.digest for learner in store.learners}
    store.close()
    done, total, written = 0, 2 * planned.num_bytes, []
    sweep(path / SHARDS)
    for shard in state.shards_of(planned.from_version):
        yield Migrated(step=planned, done=done, total=total)
        written.append(_written_anew(shard, step))
        done += shard.stat().st_size
    try:
        for number, _ in enumerate(_compared(open_store(path), digests)):
            yield Migrated(step=planned, done=done + (total - done) * number // max(1, len(digests)), total=total)
    except DamagedData:
        remove_files(path / SHARDS, written)  # what they replace shows again
        raise
    document = read_document(LocalPlace(path))
    if document.format_version == planned.from_version:
        replace_file(path / DOCUMENT, canonical_json(step.document(document)) + b"\n")
    remove_files(path / SHARDS, [shard.name for shard in state.shards_of(planned.from_version, hidden=True)])
    _check_moved(path, planned)
    if (path / CARD).exists():
        write_card(open_store(path))
    yield Migrated(step=planned, done=total, total=total)


def _written_anew(shard: Path, step: Step) -> str:
    """Put the shard that takes another one's place beside it, and return its name; damage is never carried over."""
    if sha256_of(shard) != shard.stem:
        raise DamagedData(f"{shard}: does not hold what was written to it. Run hist verify; restore it from a copy.")
    data = step.shard(shard)
    name = f"{sha256_hex(data)}{shard.suffix}"
    replace_file(shard.with_name(name), data)
    return name


def _compared(store: Store, digests: dict[str, str]) -> Iterator[str]:
    """Yield each learner whose data have the digest that was recorded before."""
    found = {learner.id: learner for learner in store.learners}
    for learner, digest in digests.items():
        now = learner_digest(found[learner]) if learner in found else "missing"
        if now != digest:
            raise DamagedData(
                f"{store.path}: learner {learner[:12]} has digest {digest[:12]}, its migrated data {now[:12]}. The "
                "store is as it was. Run hist verify."
            )
        yield learner
    store.close()


def _check_moved(path: Path, planned: PlannedStep) -> None:
    version = _State(path).version
    if _as_numbers(version) < _as_numbers(planned.to_version):
        raise OlderFormat(
            f"{path}: is in format {version} after the step to {planned.to_version}, so an older version still records "
            "into it. Stop that and run the same command again."
        )


def _header(shard: Path) -> ShardHeader:
    reader = open_shard(shard)
    header = reader.header
    reader.close()
    return header


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
