"""Shards made of shards: what is kept is the same to the last bit."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from eventful_stores import bits, eventful_store, everything, many_seals, problems_of
from store_samples import checkpoint, create, life, record, small_store

import historystore as hs
from historystore.documents import sha256_hex
from historystore.rewrite import clipped, joined, layout, selected
from historystore.shards import ShardTables, open_shard, read_tables, shard_format
from historystore.shards.protocol import TABLES


def tables_of(store: hs.Store) -> list[ShardTables]:
    return [read_tables(store.shard(i)) for i in range(len(store.shard_names))]


def store_of(path: Path, parts: list[ShardTables]) -> hs.Store:
    """Put shards into a new store, and open it."""
    create(path)
    for tables in parts:
        data = shard_format("hdf5").encode(tables)
        (path / "shards" / f"{sha256_hex(data)}.h5").write_bytes(data)
    return hs.open(path)


def test_selecting_all_learners_changes_no_value(tmp_path: Path) -> None:
    (tables,) = tables_of(small_store(tmp_path / "s", num_learners=3))
    same = selected(tables, range(3))
    assert same.header == tables.header
    assert same.learners == tables.learners
    for name in ("steps", *TABLES):
        ours, theirs = getattr(same, name), getattr(tables, name)
        assert {key: bits(column) for key, column in ours.items()} == {k: bits(v) for k, v in theirs.items()}


@pytest.mark.parametrize("rows", [[0], [2], [0, 2], [1, 2]])
def test_a_selected_learner_is_the_same(tmp_path: Path, rows: list[int]) -> None:
    store = small_store(tmp_path / "s", num_learners=3)
    (tables,) = tables_of(store)
    kept = store_of(tmp_path / "t", [selected(tables, rows)])
    ids = {tables.learners[row].learner for row in rows}
    assert everything(kept) == {key: value for key, value in everything(store).items() if key in ids}
    assert problems_of(kept.path) == []


@pytest.mark.parametrize("seed", range(3))
def test_shards_joined_in_any_order_show_the_same(tmp_path: Path, seed: int) -> None:
    store = eventful_store(tmp_path / "s")
    parts = tables_of(store)
    random.Random(seed).shuffle(parts)
    groups: dict[object, list[ShardTables]] = {}
    for part in parts:
        groups.setdefault(layout(part.header), []).append(part)
    some = groups.pop(())
    for part in some:
        random.Random(seed).choice(list(groups.values())).append(part)
    again = store_of(tmp_path / "t", [joined(group) for group in groups.values()])
    checkpoint(again.path)
    assert everything(again) == everything(store)
    assert problems_of(again.path) == []


def test_joining_a_shard_with_itself_or_with_part_of_itself_changes_nothing(tmp_path: Path) -> None:
    (tables,) = tables_of(small_store(tmp_path / "s", num_learners=3))
    part = clipped(selected(tables, [1]), {0: 25})
    for parts in ([tables, tables], [tables, part], [part, selected(tables, [0]), tables]):
        whole = joined(parts)
        assert whole.header.num_steps == tables.header.num_steps
        assert everything(store_of(tmp_path / str(len(list(tmp_path.iterdir()))), [whole])) == everything(
            hs.open(tmp_path / "s")
        )


def test_a_clipped_learner_has_its_first_steps_and_what_belongs_to_them(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s", num_learners=2)
    (tables,) = tables_of(store)
    cut = store_of(tmp_path / "t", [clipped(tables, {0: 25})])
    learner, other = tables.learners[0].learner, tables.learners[1].learner
    assert everything(cut)[other] == everything(store)[other]
    for ours, theirs in zip(cut.learner(learner).histories, store.learner(learner).histories, strict=True):
        assert len(ours) == 25
        for name, column in ours.read().items():
            assert np.array_equal(column, theirs.read(0, 25)[name])
        is_kept = theirs.episodes.first_step + theirs.episodes.length <= 25
        assert np.array_equal(ours.episodes.return_, theirs.episodes.return_[is_kept])
    assert cut.learner(learner).update_columns()["step"].tolist() == [20]
    assert cut.learner(learner).row == store.learner(learner).row


def test_a_column_stored_in_several_dtypes_is_joined_in_one_that_holds_all(tmp_path: Path) -> None:
    wide = life(seed=1)
    wide.steps["observation"][3, 0] = 40_000
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, life(seed=0))
        writer.seal()
        record(writer, wide)
    parts = tables_of(hs.open(tmp_path / "s"))
    assert len({part.header.fields[0].stored_dtype for part in parts}) == 2
    assert joined(parts).header.fields[0].stored_dtype == "<i8"
    assert everything(store_of(tmp_path / "t", [joined(parts)])) == everything(hs.open(tmp_path / "s"))


def test_values_that_nobody_kept_has_logged_leave_with_those_who_did(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, life(seed=0))
        writer.begin(life(seed=1).spec).add_update(step=0, values={"rare": 1}, learning_rate=None, wall_time_s=0)
    (tables,) = tables_of(hs.open(tmp_path / "s"))
    assert "values/rare" in tables.updates
    assert "values/rare" not in selected(tables, [0]).updates
    assert list(selected(tables, [1]).updates)[-1] == "values/rare"


def test_what_is_made_replaces_nothing(tmp_path: Path) -> None:
    (tables,) = tables_of(small_store(tmp_path / "s"))
    header = tables.header.model_copy(update={"replaces": ("a",)})
    tables = replace(tables, header=header)
    assert selected(tables, [0]).header.replaces == joined([tables]).header.replaces == ()


def test_a_history_over_many_shards_becomes_one_segment(tmp_path: Path) -> None:
    store = many_seals(tmp_path / "s", num_learners=2)
    whole = joined(tables_of(store))
    assert whole.segments["length"].tolist() == [60] * 6
    parts = [open_shard(store.shard(index).path) for index in range(len(store.shard_names))]
    assert sorted(part.segments["length"].tolist() for part in parts) == [[], *[[6] * 6] * 10]
