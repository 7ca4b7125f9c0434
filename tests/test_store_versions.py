"""Shards from the future: refused in one line, or read without what a later version adds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_samples import small_store

import historystore as hs
from historystore.documents import TableShape, canonical_json, sha256_hex
from historystore.errors import DamagedData, NewerFormat
from historystore.replay import learner_digest
from historystore.shards import format_name, open_shard, read_tables, shard_format

INSTALL = "Install a newer one: pip install --upgrade historystore"


@pytest.fixture(params=["hdf5", "arrow"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> hs.Store:
    return small_store(tmp_path / "s", way=request.param)


def with_header(store: hs.Store, **changes: Any) -> Path:
    """Put a shard with another header in the place of the store's."""
    (shard,) = (store.path / "shards").iterdir()
    header = open_shard(shard).header.model_dump(mode="json") | changes
    data = shard_format(format_name(shard)).with_header(shard, canonical_json(header))
    shard.unlink()
    other = shard.with_name(f"{sha256_hex(data)}{shard.suffix}")
    other.write_bytes(data)
    return other


def fields(store: hs.Store, **changes: Any) -> list[dict[str, Any]]:
    """Return the fields of the store's shard, the first one changed."""
    (shard,) = (store.path / "shards").iterdir()
    first, *others = (field.model_dump(mode="json") for field in open_shard(shard).header.fields)
    return [first | changes, *others]


@pytest.mark.parametrize(
    ("encoding", "version"), [("delta", 1), ("plain", 2), ("packed", 2)], ids=["encoding", "plain", "packed"]
)
def test_an_unknown_encoding_or_version_of_one_is_refused_in_one_line(
    store: hs.Store, encoding: str, version: int
) -> None:
    shard = with_header(store, fields=fields(store, encoding=encoding, encoding_version=version))
    with pytest.raises(NewerFormat) as caught:
        assert hs.open(store.path).num_steps
    assert str(caught.value) == (
        f"{shard}: observation is in encoding {encoding} {version}, this version reads plain 1, packed 1. {INSTALL}"
    )


def test_a_shard_of_a_larger_major_is_refused(store: hs.Store) -> None:
    shard = with_header(store, format_version="2.0")
    with pytest.raises(NewerFormat) as caught:
        assert hs.open(store.path).num_steps
    assert str(caught.value) == f"{shard}: header: is written in format 2.0, this version reads up to 1.x. {INSTALL}"


def test_a_shard_that_needs_an_unknown_reader_feature_is_refused(store: hs.Store) -> None:
    with_header(store, reader_features=["read-by-bees"])
    with pytest.raises(NewerFormat, match="header: needs the reader features read-by-bees"):
        assert hs.open(store.path).num_steps


def test_a_shard_of_a_larger_minor_reads_with_what_it_adds_left_out(store: hs.Store) -> None:
    digest = store.digest
    with_header(store, format_version="1.7", motto="more", fields=fields(store, unit="m"))
    assert hs.open(store.path).digest == digest


def test_a_column_and_a_table_that_a_larger_minor_adds_are_left_out(store: hs.Store) -> None:
    (shard,) = (store.path / "shards").iterdir()
    digest, tables = store.digest, read_tables(open_shard(shard))
    shapes = dict(tables.header.tables)
    episodes = {**tables.episodes, "mood": np.zeros(len(tables.episodes["seed"]), "c8")}
    shapes["episodes"] = shapes["episodes"].model_copy(update={"columns": tuple(episodes)})
    shapes["moods"] = TableShape(num_rows=3, columns=("mood",))
    header = tables.header.model_copy(update={"format_version": "1.7", "tables": shapes})
    data = shard_format(format_name(shard)).encode(replace(tables, episodes=episodes, header=header))
    shard.unlink()
    shard.with_name(f"{sha256_hex(data)}{shard.suffix}").write_bytes(data)
    assert hs.open(store.path).digest == digest
    assert learner_digest(hs.open(store.path).learners[0]) == store.learners[0].digest


def test_an_unknown_key_in_a_shard_of_this_version_is_damage(store: hs.Store) -> None:
    with_header(store, motto="more")
    with pytest.raises(DamagedData, match="motto is not valid"):
        assert hs.open(store.path).num_steps


@pytest.mark.parametrize("dtype", ["<f16", ">f4", "O", "<M8[ns]", "many", "<i9"])
def test_a_dtype_that_the_format_does_not_have_is_damage(store: hs.Store, dtype: str) -> None:
    with_header(store, fields=fields(store, dtype=dtype))
    with pytest.raises(DamagedData, match=r"fields\.0\.dtype is not valid"):
        assert hs.open(store.path).num_steps


def test_the_fields_of_a_header_are_stamped_with_encoding_and_version(store: hs.Store) -> None:
    (shard,) = (store.path / "shards").iterdir()
    header = json.loads(canonical_json(open_shard(shard).header))
    assert {(field["encoding"], field["encoding_version"]) for field in header["fields"]} == {("plain", 1)}
