"""From 0.1, which promised nothing, to 1.0, which is frozen: what a shard says about itself, and no column of it.

1.0 adds Arrow shards and values of no fixed size. A shard of 0.1 has neither, so its columns are copied as they lie,
compressed. Checkpoints have a version of their own and stay.
"""

from __future__ import annotations

from pathlib import Path

from historystore.documents import ShardHeader, StoreDocument, canonical_json, signed
from historystore.migrations.step import Step
from historystore.shards import format_name, open_shard, shard_format

_TO = "1.0"


def _document(store: StoreDocument) -> StoreDocument:
    payload = store.model_dump(mode="json", exclude={"digest"}) | {"format_version": _TO}
    return StoreDocument.model_validate(signed(payload))


def _header(header: ShardHeader, *, name: str) -> ShardHeader:
    changes = {"format_version": _TO, "store": _document(header.store), "replaces": (name, *header.replaces)}
    return header.model_copy(update=changes)


def _shard(path: Path) -> bytes:
    reader = open_shard(path)
    header = _header(reader.header, name=path.name)
    reader.close()
    return shard_format(format_name(path)).with_header(path, canonical_json(header))


STEP = Step(to_version=_TO, document=_document, shard=_shard)
