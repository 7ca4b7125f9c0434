from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from store_samples import create, life, record, small_store

import historystore as hs
from historystore.documents import sha256_hex
from historystore.errors import DamagedData, HistoryError
from historystore.shards import ShardReader, open_shard


def everything(shard: ShardReader) -> list[object]:
    """All that can be read of a shard."""
    read: list[object] = [shard.header, shard.learners]
    for table in (shard.segments, shard.episodes, shard.final_observations, shard.updates):
        read += [(name, column.tobytes()) for name, column in sorted(table.items())]
    for field in shard.header.fields:
        read.append((field.name, shard.read(field.name, 0, shard.header.num_steps).tobytes()))
    return read


@pytest.fixture(params=["hdf5", "arrow", "arrow-archive"])
def shard(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return next((small_store(tmp_path / "s", way=request.param).path / "shards").iterdir())


def test_a_flipped_bit_is_never_returned_as_data(shard: Path, tmp_path: Path) -> None:
    """Bits of the superblock and all over the rest; a flip in unused space changes nothing."""
    data = shard.read_bytes()
    expected = everything(open_shard(shard))
    places = [*range(48), *np.random.default_rng(0).integers(48, len(data), 300).tolist()]
    copy = tmp_path / shard.name
    num_found = 0
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        copy.write_bytes(damaged)
        message = None
        with contextlib.closing(open_shard(copy)) as reader:
            try:
                assert everything(reader) == expected
            except HistoryError as error:
                message = str(error)
        if message is not None:
            num_found += 1
            assert str(copy) in message
            assert "\n" not in message
    assert num_found > len(places) / 4  # most of a small file is names and free space


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.99])
def test_a_cut_file_is_never_returned_as_data(shard: Path, tmp_path: Path, share: float) -> None:
    copy = tmp_path / shard.name
    copy.write_bytes(shard.read_bytes()[: int(share * shard.stat().st_size)])
    with pytest.raises(DamagedData, match=shard.stem):
        everything(open_shard(copy))


def test_a_shard_is_named_by_the_sha256_of_its_bytes(shard: Path) -> None:
    assert shard.name == f"{sha256_hex(shard.read_bytes())}{shard.suffix}"


def test_damage_names_the_file_the_field_and_the_rows(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s", num_learners=1, num_steps=20_000, num_streams=1)
    path = store.path / "shards" / store.shard_names[0]
    store.close()
    with h5py.File(path, "r") as file:
        chunk = file["steps/reward"].id.get_chunk_info(1)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 4
    path.write_bytes(data)
    history = hs.open(tmp_path / "s").learners[0].histories[0]
    assert len(history.read(0, 8192)["reward"]) == 8192
    with pytest.raises(DamagedData) as caught:
        history.read(0, 20_000)
    assert str(caught.value).startswith(f"{path}: reward, rows 8192 to 16384 cannot be read, ")


def test_a_store_with_a_damaged_shard_says_which_in_one_line(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    path = store.path / "shards" / store.shard_names[0]
    path.write_bytes(b"not HDF5 at all")
    (store.path / "index.arrow").unlink()
    with pytest.raises(DamagedData) as caught:
        _ = hs.open(tmp_path / "s").num_steps
    assert str(caught.value) == (
        f"{path}: does not begin as an HDF5 file does. Run hist verify; restore it from a copy."
    )


def test_a_store_with_a_cut_shard_is_not_taken_for_whole_because_its_index_is(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    path = store.path / "shards" / store.shard_names[0]
    assert (store.path / "index.arrow").exists()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedData, match=f"^{path}"):
        hs.open(tmp_path / "s").status_of()


def test_a_shard_whose_tables_contradict_each_other_is_refused(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    path = store.path / "shards" / store.shard_names[0]
    store.close()
    with h5py.File(path, "r+") as file:
        file["segments/offset"][1] = 3
    (store.path / "index.arrow").unlink()
    with pytest.raises(DamagedData, match="segments: do not cover each of the 360 steps once"):
        _ = hs.open(tmp_path / "s").num_steps


def test_a_flip_or_cut_in_the_index_is_mended_from_the_shards(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    digest, num_episodes = store.digest, store.num_episodes
    index = store.path / "index.arrow"
    whole = index.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 60).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        index.write_bytes(damaged)
        again = hs.open(tmp_path / "s")
        assert (again.digest, again.num_episodes) == (digest, num_episodes)
        assert index.read_bytes() == whole
    for length in (0, 1, 100, len(whole) - 1):
        index.write_bytes(whole[:length])
        assert hs.open(tmp_path / "s").digest == digest


def test_a_damaged_store_json_is_refused(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    document = store.path / "store.json"
    whole = document.read_bytes()
    for place in range(len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        document.write_bytes(damaged)
        with pytest.raises(HistoryError) as caught:
            hs.open(tmp_path / "s")
        assert str(store.path) in str(caught.value)


def test_a_shard_that_went_missing_leaves_what_came_before_it(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, life(end_rate=0.0), seals=[20, 40])
    store = hs.open(tmp_path / "s")
    middle = store.histories.piece_shard[1]
    (store.path / "shards" / store.shard_names[middle]).unlink()
    left = hs.open(tmp_path / "s")
    assert left.status_of() == {left.learners[0].id: "partial"}
    assert [history.num_steps for history in left.learners[0].histories] == [20, 20, 20]
    assert left.learners[0].digest != store.learners[0].digest
    assert np.array_equal(left.learners[0].histories[0].episodes.length, [20])
    shutil.rmtree(store.path)


def test_damage_in_an_arrow_shard_names_the_field_and_the_rows(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s", num_learners=1, way="arrow", num_steps=70_000, num_streams=1)
    path = store.path / "shards" / store.shard_names[0]
    rewards = store.learners[0].histories[0].read(0, 70_000)["reward"].tobytes()
    store.close()
    data = bytearray(path.read_bytes())
    place = data.index(rewards)
    data[place + 4 * 69_000] ^= 4
    path.write_bytes(data)
    history = hs.open(tmp_path / "s").learners[0].histories[0]
    block = open_shard(path).chunk_steps
    first = 69_000 // block * block
    assert len(history.read(0, first)["reward"]) == first
    with pytest.raises(DamagedData) as caught:
        history.read(0, 70_000)
    assert str(caught.value).startswith(f"{path}: reward, rows {first} to 70000 cannot be read, its checksum does")


def test_a_length_that_asks_for_too_much_memory_is_damage_and_no_lack_of_memory(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s", way="arrow-archive")
    path = store.path / "shards" / store.shard_names[0]
    store.close()
    data = path.read_bytes()
    magic = b"\x28\xb5\x2f\xfd"  # a Zstandard frame, behind the eight bytes of its content's length
    place = data.index(magic) - 8
    path.write_bytes(data[:place] + (1 << 60).to_bytes(8, "little") + data[place + 8 :])
    with pytest.raises(DamagedData, match="cannot be read, it asks for too much memory"):
        everything(open_shard(path))
