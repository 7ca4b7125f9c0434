"""XLand-100B's layout: files made as its collection code makes them come in, and ours go out so."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from darkroom_learners import darkroom_store
from exchange_samples import exported, imported, problems, spaced_store
from gymnasium import spaces
from store_samples import create, life, record, spec

import historystore as hs
from historystore.errors import InvalidValue
from historystore.exchange.protocol import NEXT_IS_KNOWN

NUM_HISTORIES, NUM_STEPS = 4, 5000


def published(path: Path, *, rulesets: tuple[int, ...] = (7, 3), env: str = "XLand-MiniGrid-R1-9x9") -> Path:
    """Make a file in the published layout: names, shapes, dtypes, chunks, compression and attributes."""
    rng = np.random.default_rng(0)
    shape = (NUM_HISTORIES, NUM_STEPS)
    with h5py.File(path, "w") as file:
        for number, ruleset in enumerate(rulesets):
            group = file.create_group(str(number))
            group.attrs.update({"env-id": env, "benchmark-id": "trivial-1m", "ruleset-id": ruleset})
            done = rng.random(shape) < 0.05
            reward = np.where(done & (rng.random(shape) < 0.5), 1 - 0.9 * rng.random(shape), 0)
            columns = {
                "states": rng.integers(0, 182, (*shape, 5, 5), np.uint8),
                "actions": rng.integers(0, 6, shape, np.uint8),
                "rewards": reward.astype(np.float16),
                "dones": done,
                "expert_actions": rng.integers(0, 6, shape, np.uint8),
            }
            for name, column in columns.items():
                chunks = (1, 4096, *column.shape[2:])
                group.create_dataset(name, data=column, chunks=chunks, compression="gzip", compression_opts=6)
    return path


def test_a_published_file_becomes_a_learner_a_group_with_a_stream_a_history(tmp_path: Path) -> None:
    source = published(tmp_path / "xland.hdf5")
    report = imported(source, tmp_path / "store", of="xland")
    store = hs.open(tmp_path / "store")
    assert (report.num_learners, report.num_steps, report.notes) == (2, 2 * NUM_HISTORIES * NUM_STEPS, ())
    assert store.observation_space == spaces.Box(0, 255, (5, 5), np.uint8)
    assert store.action_space == spaces.Discrete(6)
    assert problems(store.path) == []
    learners = {learner.spec.task["ruleset-id"]: learner for learner in store.learners}
    assert sorted(learners) == [3, 7]
    assert learners[7].spec.env_args == {"env-id": "XLand-MiniGrid-R1-9x9", "benchmark-id": "trivial-1m"}
    assert learners[7].row.provenance.engine == "import:xland"
    with h5py.File(source) as file:
        for stream in range(NUM_HISTORIES):
            steps = learners[7].histories[stream].read()
            for name, theirs in (("observation", "states"), ("action", "actions"), ("reward", "rewards")):
                np.testing.assert_array_equal(steps[name], file["0"][theirs][stream])
            done = file["0/dones"][stream]
            np.testing.assert_array_equal(steps["terminated"], done & (file["0/rewards"][stream] > 0))
            np.testing.assert_array_equal(steps["truncated"], done & (file["0/rewards"][stream] == 0))


def test_what_steps_led_to_is_marked_where_the_file_does_not_say_it(tmp_path: Path) -> None:
    source = published(tmp_path / "xland.hdf5")
    imported(source, tmp_path / "store", of="xland")
    learner = next(one for one in hs.open(tmp_path / "store").learners if one.spec.task["ruleset-id"] == 7)
    with h5py.File(source) as file:
        states, done = file["0/states"][1], file["0/dones"][1]
    is_known = learner.histories[1].read(fields=[NEXT_IS_KNOWN])[NEXT_IS_KNOWN]
    assert not is_known[-1]
    np.testing.assert_array_equal(is_known[:-1], ~done[:-1])
    following = learner.histories[1].next_observations()["observation"]
    np.testing.assert_array_equal(following[:-1][is_known[:-1]], states[1:][is_known[:-1]])


def test_every_done_of_another_environment_counts_as_truncated_and_that_is_told(tmp_path: Path) -> None:
    report = imported(published(tmp_path / "a.hdf5", env="Other-v0"), tmp_path / "store", of="xland")
    assert report.notes == ("The environment is none of XLand-MiniGrid's, so that every done counts as truncated.",)
    assert not hs.open(tmp_path / "store").episodes.terminated.any()


def test_a_task_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="several groups have the same ruleset-id"):
        imported(published(tmp_path / "a.hdf5", rulesets=(3, 3)), tmp_path / "store", of="xland")


@pytest.mark.parametrize(
    ("name", "line"),
    [("actions", "group /0 has no actions. Give a file in this layout."), ("0", "has no groups, expected one a task.")],
)
def test_a_file_of_another_layout_is_one_line(name: str, line: str, tmp_path: Path) -> None:
    source = published(tmp_path / "xland.hdf5", rulesets=(1,))
    with h5py.File(source, "a") as file:
        del file[name if name == "0" else f"0/{name}"]
    with pytest.raises(InvalidValue) as caught:
        imported(source, tmp_path / "store", of="xland")
    assert line in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_arrays_that_do_not_fit_each_other_are_one_line(tmp_path: Path) -> None:
    source = published(tmp_path / "xland.hdf5", rulesets=(1,))
    with h5py.File(source, "a") as file:
        del file["0/actions"]
        file["0/actions"] = np.zeros((NUM_HISTORIES, NUM_STEPS - 1), np.uint8)
    with pytest.raises(InvalidValue, match="group /0 has arrays that do not fit each other, got"):
        imported(source, tmp_path / "store", of="xland")


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_file_is_one_line(share: float, tmp_path: Path) -> None:
    source = published(tmp_path / "xland.hdf5")
    data = source.read_bytes()
    source.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InvalidValue, match="cannot be read"):
        imported(source, tmp_path / "store", of="xland")


def test_an_export_has_the_published_names_shapes_and_dtypes(tmp_path: Path) -> None:
    store = hs.open(darkroom_store(tmp_path / "store"))
    report = exported(store.path, tmp_path / "out.hdf5", to="xland")
    assert report.notes == ("2 learners that are not complete were left out.",)
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert sorted(file) == ["0", "1"]
        first, second = file["0"], file["1"]
        assert {name: (d.shape, d.dtype.str) for name, d in second.items()} == {
            "states": ((2, 480, 2), "|u1"),
            "actions": ((2, 480), "|u1"),
            "rewards": ((2, 480), "<f2"),
            "dones": ((2, 480), "|b1"),
        }
        assert {(d.compression, d.compression_opts, d.chunks[0]) for d in second.values()} == {("gzip", 6, 1)}
        assert dict(first.attrs) == {
            "env-id": "historystore/DarkRoom-v0",
            "benchmark-id": "darkroom",
            "ruleset-id": 0,
            "task": '{"goal": [1, 7]}',
        }
        learners = [one for one in store.learners if one.spec.task == {"goal": [6, 3]} and one.status == "complete"]
        for learner in learners:  # the algorithms' names give the order: A2C, PPO
            steps = learner.histories[0].read()
            row = 0 if learner.spec.algorithm == "A2C" else 1
            np.testing.assert_array_equal(second["states"][row], steps["observation"])
            np.testing.assert_array_equal(second["actions"][row], steps["action"])
            np.testing.assert_array_equal(second["dones"][row], steps["terminated"] | steps["truncated"])


def test_longer_histories_are_cut_and_rounded_rewards_are_counted(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "store")) as writer:
        for seed, num_steps in ((0, 60), (9, 50)):
            record(writer, life(seed=seed, num_steps=num_steps))
    report = exported(tmp_path / "store", tmp_path / "out.hdf5", to="xland")
    rewards = [life(seed=0).steps["reward"][:50], life(seed=9, num_steps=50).steps["reward"]]
    num_rounded = sum(int((reward.astype("f2") != reward).sum()) for reward in rewards)
    assert report.num_steps == 2 * 3 * 50
    assert report.notes == (
        f"group 0: {num_rounded:,} rewards were rounded to float16.",
        "30 steps of histories longer than the shortest of their task were left out.",
    )


def test_tasks_of_unequal_histories_are_told_of(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "store")) as writer:
        for seed, num_steps in ((0, 60), (1, 50)):
            record(writer, life(seed=seed, num_steps=num_steps))
    report = exported(tmp_path / "store", tmp_path / "out.hdf5", to="xland")
    assert report.notes[-1] == (
        "Tasks differ in the number or length of their histories, which loaders of this layout expect not."
    )


@pytest.mark.parametrize(("low", "dtype"), [(250, "i8"), (-3, "i8"), (0, "f4")])
def test_observations_that_bytes_cannot_hold_are_refused_never_wrapped(low: int, dtype: str, tmp_path: Path) -> None:
    space = spaces.Box(-1000, 1000, (2,), np.dtype(dtype).type)
    store = hs.create(tmp_path / "s", family="grid", observation_space=space, action_space=spaces.Discrete(5))
    obs, no = np.arange(low, low + 20).reshape(10, 1, 2).astype(dtype), np.zeros((10, 1), bool)
    with hs.StoreWriter(store) as writer:
        learner = writer.begin(spec(num_streams=1, num_steps=10))
        learner.add_steps(
            {"observation": obs, "action": no.astype(int), "reward": no * 1.0, "terminated": no, "truncated": no},
            final_observations={"observation": obs[:0, 0]},
            next_observation={"observation": obs[0]},
        )
        learner.finish()
    with pytest.raises(InvalidValue, match="the XLand layout holds whole numbers of 0 to 255, got"):
        exported(store.path, tmp_path / "out.hdf5", to="xland")
    assert not (tmp_path / "out.hdf5").exists()


def test_several_arrays_of_observations_are_refused(tmp_path: Path) -> None:
    space = spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Discrete(2)})
    path = spaced_store(tmp_path / "store", space, spaces.Discrete(2))
    with pytest.raises(InvalidValue, match="one array of observations, got the fields observation/a, observation/b"):
        exported(path, tmp_path / "out.hdf5", to="xland")


def test_without_a_complete_learner_there_is_nothing_to_export(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "store")) as writer:
        record(writer, life(), finish=None)
    with pytest.raises(InvalidValue, match="no learner is complete"):
        exported(tmp_path / "store", tmp_path / "out.hdf5", to="xland")
