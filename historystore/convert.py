"""Writing a store anew in another format: other files, the same learners, digests and documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from historystore.card import write_card
from historystore.checkpoints import DOCUMENT as CHECKPOINT
from historystore.checkpoints import read_checkpoint, write_checkpoint
from historystore.documents import FORMAT_VERSION, canonical_json
from historystore.errors import NotAStore
from historystore.files import create_file, make_folder, sweep
from historystore.folder import CHECKPOINTS, DOCUMENT, SHARDS, check_addable, check_free
from historystore.places import Place, StorePath, place_of
from historystore.shards import FormatName, Profile, ShardReader, read_tables, shard_format
from historystore.store import Store
from historystore.store import open as open_store
from historystore.writer import put_shard


class Converted(BaseModel):
    """How far a conversion has come."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_shards: int
    """Shards written so far."""
    total_shards: int
    num_bytes_read: int
    total_bytes: int
    num_bytes: int
    """Bytes of the shards written so far."""

    @property
    def done(self) -> int:
        """Bytes read so far."""
        return self.num_bytes_read

    @property
    def total(self) -> int:
        """Bytes to read."""
        return self.total_bytes


def convert(
    source: StorePath | Place,
    out: StorePath,
    *,
    format: FormatName,  # noqa: A002 - as on the command line
    profile: Profile | None = None,
) -> Iterator[Converted]:
    """Write all visible shards of a store into a new one, shard by shard, and yield how far it is.

    `store.json` is written last: what a crash leaves is no store, and the same call writes it whole. Each shard is read
    whole, so memory holds one at a time; what does not fit its checksums is never carried over.

    Raises:
        InvalidValue: there is no such format, or it has no such profile; or `out` is remote.
        NotAStore: something is at `out`.
        OlderFormat: the source has to be migrated first.
        NewerFormat: the source takes features that this version lacks.
        DamagedData: a shard of the source is damaged.
        WriteFailed: the disk refused.
    """
    way, store, path = shard_format(format, profile=profile), open_store(source), place_of(out).path
    check_addable(store.place, store.document, doing="converting it")
    if (path / DOCUMENT).exists():
        raise NotAStore(f"{path}: there is a store already. Choose a new or empty folder.")
    check_free(place_of(path))
    make_folder(path / SHARDS)
    sweep(path / SHARDS)
    target = Store(path, document=store.document, shard_names=(), mode="a")
    readers = [store.shard(index) for index in range(len(store.shard_names))]
    sizes = [reader.path.stat().st_size for reader in readers]
    written: list[str] = []
    num_bytes = 0
    for number, reader in enumerate(readers):
        yield _state(written, sizes, number, num_bytes)
        tables = read_tables(reader)
        reader.close()
        header = tables.header.model_copy(update={"replaces": (), "format_version": FORMAT_VERSION})
        written.append(put_shard(target, tables.with_header(header), shard_format=way))
        num_bytes += (path / SHARDS / written[-1]).stat().st_size
    _copy_checkpoints(store, readers, path)
    _drop_others(path / SHARDS, written)
    create_file(path / DOCUMENT, canonical_json(store.document) + b"\n")
    write_card(open_store(path))
    yield _state(written, sizes, len(sizes), num_bytes)


def _state(written: Sequence[str], sizes: Sequence[int], number: int, num_bytes: int) -> Converted:
    return Converted(
        num_shards=len(written),
        total_shards=len(sizes),
        num_bytes_read=sum(sizes[:number]),
        total_bytes=sum(sizes),
        num_bytes=num_bytes,
    )


def _copy_checkpoints(store: Store, readers: Sequence[ShardReader], out: Path) -> None:
    """Copy the checkpoints that visible learners name, and what is still there of those that other rows name."""
    visible = {learner.row.checkpoint for learner in store.learners}
    for name in sorted({row.checkpoint for reader in readers for row in reader.learners if row.checkpoint}):
        if name in visible or store.place.exists(f"{CHECKPOINTS}/{name}/{CHECKPOINT}"):
            write_checkpoint(out, *read_checkpoint(store.place, name))


def _drop_others(folder: Path, names: Sequence[str]) -> None:
    """Delete shards that an earlier call left, which was broken off and wrote in another format."""
    for file in folder.iterdir():
        if file.name not in names:
            file.unlink()
