"""DICP's layout: files made as its recorder makes them come in, and ours go out so."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from darkroom_learners import darkroom_store
from exchange_samples import exported, imported, problems, spaced_store
from gymnasium import spaces
from store_samples import create, life, record

import historystore as hs
from historystore.errors import InvalidValue
from historystore.exchange.protocol import NEXT_IS_KNOWN
from historystore.tasks import family

GOALS = ([0, 0], [0, 1], [4, 6])
NUM_STREAMS, HORIZON, NUM_EPISODES = 3, 20, 5
NAME = "history_darkroom_PPO_alg-seed100.hdf5"


def published(path: Path) -> Path:
    """Make a file as the recorder does: what a VecEnv with automatic reset returns, cast to int32."""
    rooms, rng = family("darkroom"), np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for number, goal in enumerate(GOALS):
            env = rooms.make_batched([{"goal": goal}] * NUM_STREAMS)
            rows: dict[str, list[np.ndarray]] = {
                name: [] for name in ("states", "actions", "rewards", "next_states", "dones")
            }
            obs = env.reset()
            for step in range(HORIZON * NUM_EPISODES):
                action = rng.integers(0, 5, NUM_STREAMS)
                following, reward, terminated, truncated = env.step(action)
                is_last = step % HORIZON == HORIZON - 1
                assert (terminated | truncated).all() == is_last
                if is_last:
                    following = env.reset()
                for name, array in zip(rows, (obs, action, reward, following, terminated | truncated), strict=True):
                    rows[name].append(array)
                obs = following
            group = file.create_group(f"{number}")
            for name, arrays in rows.items():
                group.create_dataset(name, data=np.array(arrays, np.bool_ if name == "dones" else np.int32))
            group.create_dataset("optimal_actions", data=np.zeros((NUM_STREAMS, HORIZON * NUM_EPISODES), np.int32))
    return path


def test_a_published_file_becomes_a_learner_a_group(tmp_path: Path) -> None:
    source = published(tmp_path / NAME)
    report = imported(source, tmp_path / "store", of="dicp")
    store = hs.open(tmp_path / "store")
    assert (report.num_learners, report.num_steps, report.notes) == (3, 3 * 3 * 100, ())
    assert store.document.family == "darkroom"
    with h5py.File(source) as file:
        seen = np.concatenate([file[f"{number}/states"][()].reshape(-1, 2) for number in range(3)])
    assert store.observation_space == spaces.Box(seen.min(0), seen.max(0), (2,), np.int32)
    assert store.action_space == spaces.Discrete(5)
    learners = sorted(store.learners, key=lambda learner: learner.spec.seed or 0)
    assert [(one.spec.algorithm, one.spec.seed, one.spec.task) for one in learners] == [
        ("PPO", 100 + number, {"group": number}) for number in range(3)
    ]
    assert problems(store.path) == []
    with h5py.File(source) as file:
        for number, learner in enumerate(learners):
            for stream, history in enumerate(learner.histories):
                steps = history.read()
                np.testing.assert_array_equal(steps["observation"], file[f"{number}/states"][:, stream])
                np.testing.assert_array_equal(steps["action"], file[f"{number}/actions"][:, stream])
                np.testing.assert_array_equal(steps["reward"], file[f"{number}/rewards"][:, stream])
                np.testing.assert_array_equal(steps["truncated"], file[f"{number}/dones"][:, stream])
                assert history.episodes.length.tolist() == [HORIZON] * NUM_EPISODES


def test_the_wrong_next_states_at_ends_are_marked_as_unknown(tmp_path: Path) -> None:
    source = published(tmp_path / NAME)
    imported(source, tmp_path / "store", of="dicp")
    history = hs.open(tmp_path / "store").learners[0].histories[0]
    is_known = history.read(fields=[NEXT_IS_KNOWN])[NEXT_IS_KNOWN]
    np.testing.assert_array_equal(np.flatnonzero(~is_known), np.arange(HORIZON - 1, 100, HORIZON))
    following, obs = history.next_observations()["observation"], history.read()["observation"]
    np.testing.assert_array_equal(following[:-1][is_known[:-1]], obs[1:][is_known[:-1]])


def test_a_file_of_another_name_tells_neither_environment_nor_seed(tmp_path: Path) -> None:
    report = imported(published(tmp_path / "mine.hdf5"), tmp_path / "store", of="dicp")
    assert report.notes == ("mine.hdf5 says neither environment, algorithm nor seed: it is not named as DICP does.",)
    store = hs.open(tmp_path / "store")
    assert store.document.family == "mine"
    assert {(one.spec.algorithm, one.spec.seed) for one in store.learners} == {("unknown", None)}


def test_a_meta_world_file_keeps_its_floats(tmp_path: Path) -> None:
    rng, shape = np.random.default_rng(0), (500, 1)
    columns = {
        "states": rng.normal(size=(*shape, 11)).astype("f4"),
        "actions": rng.normal(size=(*shape, 4)).astype("f4"),
        "rewards": rng.normal(size=shape).astype("f4"),
        "next_states": rng.normal(size=(*shape, 11)).astype("f4"),
        "dones": (np.arange(500) % 100 == 99)[:, None],
        "success": rng.random(shape).astype("f4"),
    }
    source = tmp_path / "history_reach-v2_PPO_alg-seed0.hdf5"
    with h5py.File(source, "w") as file:
        group = file.create_group("0")
        for name, column in columns.items():
            group.create_dataset(name, data=column)
    imported(source, tmp_path / "store", of="dicp")
    store = hs.open(tmp_path / "store")
    steps = store.learners[0].histories[0].read()
    assert store.document.family == "reach-v2"
    assert store.action_space == spaces.Box(-np.inf, np.inf, (4,))
    np.testing.assert_array_equal(steps["observation"], columns["states"][:, 0])
    np.testing.assert_array_equal(steps["action"], columns["actions"][:, 0])


def test_an_export_has_the_published_names_shapes_and_dtypes(tmp_path: Path) -> None:
    store = hs.open(darkroom_store(tmp_path / "store"))
    exported(store.path, tmp_path / NAME, to="dicp")
    with h5py.File(tmp_path / NAME) as file:
        assert {name: (d.shape, d.dtype.str) for name, d in file["1"].items()} == {
            "states": ((480, 2, 2), "<i4"),
            "actions": ((480, 2), "<i4"),
            "rewards": ((480, 2), "<i4"),
            "next_states": ((480, 2, 2), "<i4"),
            "dones": ((480, 2), "|b1"),
        }
        (learner,) = [one for one in store.learners if one.spec.seed == 1]
        for stream, history in enumerate(learner.histories):
            steps = history.read()
            np.testing.assert_array_equal(file["0/states"][()].transpose(1, 0, 2)[stream], steps["observation"])
            np.testing.assert_array_equal(file["0/rewards"][()].transpose(1, 0)[stream], steps["reward"])
            following = history.next_observations()["observation"]
            np.testing.assert_array_equal(file["0/next_states"][:, stream], following)


def test_an_export_comes_back_with_its_final_observations(tmp_path: Path) -> None:
    store = hs.open(darkroom_store(tmp_path / "store"))
    exported(store.path, tmp_path / NAME, to="dicp")
    imported(tmp_path / NAME, tmp_path / "back", of="dicp")
    back = hs.open(tmp_path / "back")
    assert NEXT_IS_KNOWN not in [field.name for field in back.fields]
    (ours,) = [one for one in store.learners if one.spec.seed == 1]
    (theirs,) = [one for one in back.learners if one.spec.task == {"group": 0}]
    for mine, other in zip(ours.histories, theirs.histories, strict=True):
        np.testing.assert_array_equal(mine.next_observations()["observation"], other.next_observations()["observation"])


def test_rewards_that_are_not_whole_are_float32(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "store")) as writer:
        record(writer, life())
    exported(tmp_path / "store", tmp_path / "out.hdf5", to="dicp")
    with h5py.File(tmp_path / "out.hdf5") as file:
        np.testing.assert_array_equal(file["0/rewards"][()], life().steps["reward"])


def test_integers_beyond_int32_are_refused_never_wrapped(tmp_path: Path) -> None:
    path = spaced_store(tmp_path / "store", spaces.Discrete(2, start=2**40), spaces.Discrete(2))
    with pytest.raises(InvalidValue, match="observation: the DICP layout holds int32, got"):
        exported(path, tmp_path / "out.hdf5", to="dicp")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_cut_file_is_one_line(share: float, tmp_path: Path) -> None:
    source = published(tmp_path / NAME)
    data = source.read_bytes()
    source.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InvalidValue, match="cannot be read"):
        imported(source, tmp_path / "store", of="dicp")
