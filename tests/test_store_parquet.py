"""Parquet: read back by pandas, pyarrow and Hugging Face `datasets`, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from darkroom_learners import darkroom_store
from exchange_samples import exported, spaced_store
from gymnasium import spaces
from store_samples import create, life, record, spec

import historystore as hs
from historystore.errors import InvalidValue
from historystore.packed import unpack

LOAD = """
import sys
from datasets import load_dataset
files = load_dataset("parquet", data_files=sys.argv[1] + "/steps-*.parquet", split="train")
print(len(files), files.features["observation"], files[3]["observation"], files[3]["learner"][:8])
for table in ("steps", "episodes", "learners", "updates"):
    print(table, len(load_dataset(sys.argv[1], table, split="train")))
"""


def test_hugging_face_datasets_loads_every_table_offline(tmp_path: Path) -> None:
    store = hs.open(darkroom_store(tmp_path / "store"))
    exported(store.path, tmp_path / "out", to="parquet")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache"), "HF_DATASETS_OFFLINE": "1"}
    command = [sys.executable, "-c", LOAD, str(tmp_path / "out")]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    obs = store.learners[0].histories[0].read(3, 4)["observation"][0].tolist()
    assert answer.stdout.splitlines() == [
        f"{store.num_steps} List(Value('int64'), length=2) {obs} {store.learners[0].id[:8]}",
        f"steps {store.num_steps}",
        f"episodes {store.num_episodes}",
        f"learners {len(store.learners)}",
        f"updates {store.updates_table().num_rows}",
    ], answer.stderr


def test_pandas_reads_every_step_with_its_place(tmp_path: Path) -> None:
    store = hs.open(darkroom_store(tmp_path / "store"))
    report = exported(store.path, tmp_path / "out", to="parquet")
    assert (report.num_learners, report.num_steps, report.notes) == (5, store.num_steps, ())
    frame = pd.read_parquet(tmp_path / "out" / "steps-00000.parquet")
    for learner in store.learners:
        for history in learner.histories:
            rows = frame[(frame.learner == learner.id) & (frame.stream == history.stream)]
            steps = history.read()
            np.testing.assert_array_equal(rows.step, np.arange(len(history)))
            np.testing.assert_array_equal(rows.episode, np.repeat(np.arange(len(history) // 20), 20))
            np.testing.assert_array_equal(np.stack(rows.observation.to_list()), steps["observation"])
            for name in ("action", "reward", "terminated", "truncated", "value"):
                np.testing.assert_array_equal(rows[name], steps[name])
                assert rows[name].dtype == steps[name].dtype


def test_the_small_tables_are_the_stores_and_an_episode_has_its_final_observation(tmp_path: Path) -> None:
    store = hs.open(darkroom_store(tmp_path / "store"))
    exported(store.path, tmp_path / "out", to="parquet")
    episodes = pd.read_parquet(tmp_path / "out" / "episodes-00000.parquet")
    expected = store.episodes_table().to_pandas().astype({"learner": "object"})
    assert (episodes[expected.columns].astype({"learner": "object"}) == expected).all(axis=None)
    finals = np.concatenate([history.ends()[1]["observation"] for one in store.learners for history in one.histories])
    np.testing.assert_array_equal(np.stack(episodes.final_observation.to_list()), finals)
    assert pq.read_table(tmp_path / "out" / "learners.parquet").equals(store.learners_table())
    updates = pq.read_table(tmp_path / "out" / "updates-00000.parquet")
    assert updates.equals(store.updates_table().select(updates.column_names))


def test_nested_and_shaped_fields_keep_dtype_and_shape(tmp_path: Path) -> None:
    space = spaces.Dict({"image": spaces.Box(0, 255, (4, 3), np.uint8), "bits": spaces.MultiBinary(2)})
    path = spaced_store(tmp_path / "store", space, spaces.Box(-1, 1, (2,)))
    exported(path, tmp_path / "out", to="parquet")
    table, history = pq.read_table(tmp_path / "out" / "steps-00000.parquet"), hs.open(path).learners[0].histories[0]
    assert table.schema.field("observation/image").type == pa.list_(pa.list_(pa.uint8(), 3), 4)
    for name, column in history.read().items():
        ours = np.array(table[name].slice(0, len(history)).to_pylist(), column.dtype)
        np.testing.assert_array_equal(ours, column)


def test_a_field_that_a_learner_lacks_is_null(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "store")) as writer:
        record(writer, life())
        bare = life(seed=1)
        del bare.steps["log_prob"]
        record(writer, bare)
    exported(tmp_path / "store", tmp_path / "out", to="parquet")
    frame = pd.read_parquet(tmp_path / "out" / "steps-00000.parquet")
    assert frame.groupby("learner").log_prob.count().to_dict() == {life().spec.id: 180, bare.spec.id: 0}


def test_files_and_row_groups_are_bounded_whatever_the_length_of_a_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("historystore.exchange.parquet.ROW_GROUP_BYTES", 100_000)
    monkeypatch.setattr("historystore.exchange.parquet.FILE_BYTES", 500_000)
    with hs.StoreWriter(create(tmp_path / "store")) as writer:
        record(writer, life(num_steps=10_000, num_streams=1))
    exported(tmp_path / "store", tmp_path / "out", to="parquet")
    files = sorted((tmp_path / "out").glob("steps-*.parquet"))
    metadata = [pq.read_metadata(file) for file in files]
    tables = [pq.read_table(file) for file in files]
    assert len(files) > 2
    assert max(table.nbytes for table in tables) < 700_000
    assert max(data.row_group(i).total_byte_size for data in metadata for i in range(data.num_row_groups)) < 200_000
    steps = np.concatenate([table["step"].to_numpy() for table in tables])
    np.testing.assert_array_equal(steps, np.arange(10_000))


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    no = np.zeros((1, 1), bool)
    obs = np.zeros((1, 1, 2), int)
    with hs.StoreWriter(create(tmp_path / "store")) as writer:
        learner = writer.begin(spec(num_streams=1, num_steps=1))
        steps = {"observation": obs, "action": no * 1, "reward": no * 1.0, "terminated": no, "truncated": no}
        learner.add_steps(
            steps | {"info/wave": no * 1j},
            final_observations={"observation": obs[:0, 0]},
            next_observation={"observation": obs[0]},
        )
    with pytest.raises(InvalidValue, match="info/wave: Parquet has no complex numbers"):
        exported(tmp_path / "store", tmp_path / "out", to="parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_values_of_no_fixed_shape_are_bytes(tmp_path: Path) -> None:
    space = spaces.Sequence(spaces.Box(0, 1, (2,)))
    path = spaced_store(tmp_path / "store", space, spaces.Discrete(2))
    exported(path, tmp_path / "out", to="parquet")
    column = pq.read_table(tmp_path / "out" / "steps-00000.parquet")["observation"]
    packed = np.concatenate([history.read()["observation"] for history in hs.open(path).learners[0].histories])
    assert column.type == pa.binary()
    assert column.to_pylist() == packed.tolist()
    assert len(unpack(space, column[0].as_py())) == int.from_bytes(packed[0][:4], "little")


def test_what_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = darkroom_store(tmp_path / "store")
    (tmp_path / "out").mkdir()
    with pytest.raises(InvalidValue) as caught:
        exported(path, tmp_path / "out", to="parquet")
    assert str(caught.value) == f"{tmp_path / 'out'}: is there already. Choose another place, or remove it."
