"""A store in another format is the same store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from store_samples import WAYS, checkpoint, create, life, record, small_store

import historystore as hs
from historystore.convert import convert
from historystore.errors import DamagedData, InvalidValue, NotAStore
from historystore.shards import open_shard, read_tables, shard_format
from historystore.verify import verify


def converted(source: Path, out: Path, way: str) -> hs.Store:
    for _ in convert(source, out, **WAYS[way]):
        pass
    return hs.open(out)


def problems(path: Path) -> list[str]:
    return [str(problem) for problem in verify(path) if not problem.is_note]


@pytest.mark.parametrize("way", WAYS)
def test_from_hdf5_and_back_every_learner_keeps_its_digest_and_every_row(tmp_path: Path, way: str) -> None:
    store = small_store(tmp_path / "s", num_steps=200)
    other = converted(store.path, tmp_path / "other", way)
    back = converted(other.path, tmp_path / "back", "hdf5")
    for each in (other, back):
        assert problems(each.path) == []
        assert each.document == store.document
        assert [learner.row for learner in each.learners] == [learner.row for learner in store.learners]
        assert each.digest == store.digest
        assert each.episodes_table() == store.episodes_table()
        assert each.updates_table() == store.updates_table()
    assert back.shard_names == store.shard_names


def test_a_store_may_hold_shards_of_both_formats(tmp_path: Path) -> None:
    for seed, way in enumerate(WAYS.values()):
        with hs.StoreWriter(create(tmp_path / "s"), **way) as writer:
            record(writer, life(seed=seed))
    store = hs.open(tmp_path / "s")
    assert {name.rpartition(".")[2] for name in store.shard_names} == {"h5", "arrow"}
    assert problems(store.path) == []
    for seed in range(len(WAYS)):
        lived = life(seed=seed)
        read = store.learner(lived.spec.id).histories[1].read()
        assert all(np.array_equal(read[name], values[:, 1]) for name, values in lived.steps.items())


def test_hidden_shards_stay_behind_and_checkpoints_come_along(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with hs.StoreWriter(create(path)) as writer:
        name = checkpoint(path)
        learner = record(writer, life(), finish=None)
        learner.finish(checkpoint=name)
    other = converted(path, tmp_path / "other", "arrow")
    assert (other.path / "checkpoints" / name / "policy.safetensors").read_bytes() == bytes(range(200))
    assert problems(other.path) == []


def test_broken_off_it_is_no_store_and_the_same_call_writes_it_whole(tmp_path: Path) -> None:
    path, out = tmp_path / "s", tmp_path / "out"
    with hs.StoreWriter(create(path)) as writer:
        record(writer, life(num_steps=60), seals=[20, 40])
    states = convert(path, out, format="arrow")
    for state in states:
        if state.num_shards == 2:
            break
    states.close()
    with pytest.raises(NotAStore):
        hs.open(out)
    assert converted(path, out, "hdf5-archive").digest == hs.open(path).digest
    assert {file.suffix for file in (out / "shards").iterdir()} == {".h5"}


def test_damage_is_never_carried_over(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s", num_steps=2000)
    path = store.path / "shards" / store.shard_names[0]
    store.close()
    reward = read_tables(open_shard(path)).steps["reward"]
    assert reward.size
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedData):
        converted(store.path, tmp_path / "out", "arrow")
    with pytest.raises(NotAStore):
        hs.open(tmp_path / "out")


def test_what_cannot_be_done_gets_one_line_and_writes_nothing(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    with pytest.raises(InvalidValue, match=r"^profile: an HDF5 shard is standard, archive, compat, got 'fast'\."):
        list(convert(store.path, tmp_path / "out", format="hdf5", profile="fast"))
    with pytest.raises(InvalidValue, match=r"^profile: an Arrow shard is fast or archive, got 'compat'\."):
        list(convert(store.path, tmp_path / "out", format="arrow", profile="compat"))
    with pytest.raises(InvalidValue, match=r"^format: there is no 'zarr', expected one of hdf5, arrow\."):
        shard_format("zarr")
    assert not (tmp_path / "out").exists()
    with pytest.raises(NotAStore, match="there is a store already"):
        list(convert(store.path, store.path, format="arrow"))
