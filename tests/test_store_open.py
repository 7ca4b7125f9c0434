from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from store_samples import ACTIONS, OBSERVATIONS, create, life, record, small_store, spec

import historystore as hs
from historystore.documents import canonical_json, signed
from historystore.errors import (
    DamagedData,
    HistoryError,
    InvalidValue,
    MissingField,
    NewerFormat,
    NotAStore,
    SpaceMismatch,
    StoreNotFound,
)


def rewrite(store: hs.Store, **changes: object) -> None:
    """Write a store's document anew, as a later version would."""
    payload = json.loads((store.path / "store.json").read_bytes())
    del payload["digest"]
    (store.path / "store.json").write_bytes(canonical_json(signed(payload | changes)))


def test_nothing_at_the_path(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound) as caught:
        hs.open(tmp_path / "no")
    assert str(caught.value) == (
        f"{tmp_path}/no: there is no store here. Check the path; hist inspect lists the stores of a folder."
    )
    assert isinstance(caught.value, FileNotFoundError)


def test_a_folder_that_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(NotAStore) as caught:
        hs.open(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: is no store, it has no store.json. Give a store's folder; hist inspect lists those of a folder."
    )


def test_a_file_that_is_no_shard(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "notes.h5").write_text("hello")
    with pytest.raises(NotAStore) as caught:
        hs.open(tmp_path / "notes.txt")
    assert str(caught.value) == (
        f"{tmp_path}/notes.txt: is no shard, expected a name ending in .h5 or .arrow. Give a store or a shard."
    )
    with pytest.raises(NotAStore) as caught:
        hs.open(tmp_path / "notes.h5")
    assert str(caught.value) == (
        f"{tmp_path}/notes.h5: is no shard, it does not begin as an HDF5 file does. Give a store or a shard."
    )


def test_a_foreign_store_json(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text('{"format": "other"}')
    with pytest.raises(NotAStore, match="is of something else"):
        hs.open(tmp_path)


def test_a_store_from_the_future_is_refused_with_what_to_install(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    rewrite(store, format_version="2.0")
    with pytest.raises(NewerFormat) as caught:
        hs.open(tmp_path / "s")
    assert str(caught.value) == (
        f"{tmp_path}/s/store.json: is written in format 2.0, this version reads up to 1.x. "
        "Install a newer one: pip install --upgrade historystore"
    )


def test_a_newer_minor_version_reads_with_what_it_adds_left_out(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    rewrite(store, format_version="1.7", motto="more")
    assert hs.open(tmp_path / "s").num_steps == store.num_steps


def test_an_unknown_key_in_a_store_of_this_version_is_damage(tmp_path: Path) -> None:
    rewrite(small_store(tmp_path / "s"), motto="more")
    with pytest.raises(DamagedData, match="motto is not valid"):
        hs.open(tmp_path / "s")


def test_an_unknown_reader_feature_refuses_and_an_unknown_writer_feature_only_reads(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    rewrite(store, writer_features=["sealed-by-bees"])
    assert hs.open(tmp_path / "s").num_steps == store.num_steps
    for write in (lambda: hs.open(tmp_path / "s", mode="a"), lambda: create(tmp_path / "s")):
        with pytest.raises(NewerFormat, match="can only be read, writing needs the features sealed-by-bees"):
            write()
    rewrite(store, reader_features=["read-by-bees"])
    with pytest.raises(NewerFormat, match="needs the reader features read-by-bees"):
        hs.open(tmp_path / "s")


def test_a_shard_in_a_format_of_later_is_refused(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    (store.path / "shards" / f"{'0' * 64}.zarr").touch()
    with pytest.raises(NewerFormat, match="is a shard in a format that this version does not read"):
        hs.open(tmp_path / "s")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"family": "maze"}, "other family"),
        ({"observation_space": spaces.MultiDiscrete([9, 8])}, "other observations"),
        ({"action_space": spaces.Discrete(4)}, "other actions"),
    ],
)
def test_a_store_of_another_family_or_other_spaces_is_refused(
    tmp_path: Path, changes: dict[str, object], what: str
) -> None:
    store = create(tmp_path / "s")
    keys = {"family": "grid", "observation_space": OBSERVATIONS, "action_space": ACTIONS}
    with pytest.raises(SpaceMismatch, match=f"holds {what}"):
        hs.create(store.path, **(keys | changes))


def test_creating_a_store_that_is_there_opens_it_and_writes_nothing(tmp_path: Path) -> None:
    first = small_store(tmp_path / "s")
    before = {file: file.stat().st_mtime_ns for file in first.path.rglob("*")}
    assert create(tmp_path / "s").document == first.document
    assert {file: file.stat().st_mtime_ns for file in first.path.rglob("*")} == before


def test_no_store_is_created_over_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(NotAStore, match="is a folder with other things in it"):
        create(tmp_path)
    with pytest.raises(NotAStore, match="is a file"):
        create(tmp_path / "thesis.tex")


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="this processor has no long doubles")
def test_a_space_of_long_doubles_creates_no_store(tmp_path: Path) -> None:
    space = spaces.Box(0, 1, (2,), np.longdouble)
    with pytest.raises(InvalidValue, match=r"^observation: cannot store dtype float\d+\. Give flags or numbers"):
        hs.create(tmp_path / "s", family="wide", observation_space=space, action_space=ACTIONS)
    assert not (tmp_path / "s").exists()


def test_a_space_of_ones_own_creates_no_store(tmp_path: Path) -> None:
    class Mine(spaces.Space[int]):
        pass

    with pytest.raises(InvalidValue, match="observation: Mine cannot be stored"):
        hs.create(tmp_path / "s", family="mine", observation_space=Mine(), action_space=ACTIONS)
    assert not (tmp_path / "s").exists()


def test_a_shard_by_itself_opens_as_a_store(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    alone = hs.open(store.path / "shards" / store.shard_names[0])
    assert alone.digest == store.digest
    assert alone.document == store.document
    assert [file.name for file in (store.path / "shards").iterdir()] == list(store.shard_names)
    with pytest.raises(InvalidValue, match="a single shard is never written to"):
        hs.open(alone.path, mode="a")


def test_refresh_sees_the_shards_that_were_added_since(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s", num_learners=1)
    assert len(store.learners) == 1
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, life(seed=1))
    assert len(store.learners) == 1
    store.refresh()
    assert len(store.learners) == 2
    assert store.digest == hs.open(tmp_path / "s").digest


def test_the_index_is_written_once_and_used_without_opening_a_shard(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    digest = store.digest
    for file in (store.path / "shards").iterdir():
        file.write_bytes(bytes(file.stat().st_size))
    again = hs.open(tmp_path / "s")
    assert (again.digest, again.num_episodes, again.fields) == (digest, store.num_episodes, store.fields)
    assert again.learners[0].spec == store.learners[0].spec


def test_a_disk_that_cannot_be_written_to_only_costs_the_index(tmp_path: Path) -> None:
    """A folder in the place of the index refuses the write for root too, who may write anywhere."""
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, life())
    (tmp_path / "s" / "index.arrow").mkdir()
    assert hs.open(tmp_path / "s").num_steps == 180
    assert not [file for file in (tmp_path / "s").iterdir() if file.suffix == ".tmp"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_store_is_read_and_left_alone(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, life())
    folders = [tmp_path / "s", tmp_path / "s" / "shards"]
    for folder in folders:
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert hs.open(tmp_path / "s").learners[0].histories[0].read()
        with pytest.raises(HistoryError, match="permission denied"):
            hs.StoreWriter(hs.open(tmp_path / "s", mode="a")).begin(spec()).finish()
    finally:
        for folder in folders:
            folder.chmod(stat.S_IRWXU)


def reward_of(store: hs.Store, queue: Callable[[float], None]) -> None:
    queue.put(float(store.learners[0].histories[0].read(fields=["reward"])["reward"].sum()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_store_is_read_in_forked_and_spawned_processes(tmp_path: Path, method: str) -> None:
    store = small_store(tmp_path / "s")
    expected = float(store.learners[0].histories[0].read()["reward"].sum())
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=reward_of, args=(store, queue))
    process.start()
    assert queue.get(timeout=60) == expected
    process.join()
    assert float(store.learners[0].histories[0].read()["reward"].sum()) == expected


def test_a_pickled_store_stays_the_same_set_of_shards(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s", num_learners=1)
    assert len(store.learners) == 1
    with_index, without = pickle.dumps(store), pickle.dumps(hs.open(tmp_path / "s"))
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, life(seed=1))
    assert len(hs.open(tmp_path / "s").learners) == 2
    index = (tmp_path / "s" / "index.arrow").read_bytes()
    for data in (with_index, without):
        assert pickle.loads(data).digest == store.digest
    assert (tmp_path / "s" / "index.arrow").read_bytes() == index


@pytest.mark.skipif(sys.platform != "linux", reason="counts files in /proc")
def test_beyond_a_number_of_open_files_the_oldest_is_closed_and_reads_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("historystore.store.MAX_OPEN_SHARDS", 4)
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        for seed in range(10):
            record(writer, life(seed=seed, num_steps=2, num_streams=1))
            writer.seal()
    store = hs.open(tmp_path / "s")
    assert len(store.shard_names) == 10
    for _ in range(2):
        for learner in store.learners:
            assert len(learner.histories[0].read()["reward"]) == 2
    assert num_open_files(tmp_path) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="counts files in /proc")
def test_indexing_a_store_leaves_no_shard_open(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    assert store.num_steps == 360
    assert num_open_files(tmp_path) == 0


def num_open_files(folder: Path) -> int:
    files = [str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
    return sum(file.startswith(str(folder)) for file in files)


def test_a_field_that_a_history_lacks_is_named(tmp_path: Path) -> None:
    history = small_store(tmp_path / "s").learners[0].histories[0]
    with pytest.raises(MissingField) as caught:
        history.read(fields=["reward", "value"])
    assert str(caught.value) == (
        f"{history!r}: lacks value, it has observation, action, reward, terminated, truncated, log_prob. "
        "Ask for fields it has."
    )


def test_a_span_outside_a_history_is_refused(tmp_path: Path) -> None:
    history = small_store(tmp_path / "s").learners[0].histories[0]
    for start, stop in [(-1, 5), (5, 4), (0, 61)]:
        with pytest.raises(InvalidValue, match=f"has no steps {start} to {stop}, expected a span within 0 to 60"):
            history.read(start, stop)


def test_learners_are_found_by_the_beginning_of_their_id(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    learner = store.learners[1]
    assert store.learner(learner.id[:8]) is learner
    with pytest.raises(InvalidValue, match="several learners with an id beginning ''"):
        store.learner("")
    with pytest.raises(InvalidValue, match="no learner with an id beginning 'x'"):
        store.learner("x")


def test_stores_of_a_folder_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        create(tmp_path / name)
    (tmp_path / "c").mkdir()
    assert hs.list_stores(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(StoreNotFound):
        hs.list_stores(tmp_path / "no")


def test_an_empty_store_has_nothing_and_a_digest(tmp_path: Path) -> None:
    store = hs.open(create(tmp_path / "s").path)
    assert (store.num_histories, store.num_episodes, store.num_steps, store.num_bytes) == (0, 0, 0, 0)
    assert store.learners == store.fields == store.shard_names == ()
    assert len(store.digest) == 64
    assert store.learners_table().num_rows == store.episodes_table().num_rows == store.updates_table().num_rows == 0


def test_tables_become_data_frames(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s")
    learners, episodes = store.learners_table().to_pandas(), store.episodes_table().to_pandas()
    assert learners["num_steps"].tolist() == [180, 180]
    assert sorted(learners["seed"]) == [0, 1]
    assert episodes["length"].sum() == store.num_steps
    assert np.array_equal(episodes["return"], store.episodes.return_)
    assert set(episodes["learner"]) == {learner.id for learner in store.learners}


def test_the_front_door_has_at_most_fifteen_names_and_loads_neither_torch_nor_sb3_nor_h5py() -> None:
    assert len(hs.__all__) <= 15
    heavy = {"torch", "stable_baselines3", "h5py", "pandas", "pyarrow"}
    code = f"import sys, historystore; print({heavy} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "set()\n"


@pytest.mark.parametrize("features", [3, [3], {"a": 1}, [["a"]]])
def test_reader_features_that_are_no_names_are_damage(tmp_path: Path, features: object) -> None:
    rewrite(create(tmp_path / "s"), reader_features=features)
    with pytest.raises(DamagedData, match="reader_features is no list of names"):
        hs.open(tmp_path / "s")


def test_what_cannot_be_read_is_one_line_of_ours(tmp_path: Path) -> None:
    deep, file, folder = (create(tmp_path / name).path for name in ("deep", "file", "folder"))
    (deep / "store.json").write_text("[" * 100_000)
    (file / "shards").rmdir()
    (file / "shards").touch()
    (folder / "shards" / f"{'0' * 64}.h5").mkdir()
    for path, message in [(deep, "is not valid JSON"), (file, "not a directory"), (folder, "is a directory")]:
        with pytest.raises(HistoryError, match=message):
            _ = hs.open(path).num_steps
