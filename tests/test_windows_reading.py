"""The reader against a slow reading of the same windows, step by step, through `History.read`."""

import os
import pickle
import shutil
import weakref

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from window_stores import ACTION_SPACE, OBSERVATION_SPACE, add, make_store, steps_of

import historystore.store
from historystore.errors import DamagedData, InvalidValue, MissingField, SpaceMismatch
from historystore.windows import AddressBatch, Histories, Run, WindowReader, WindowSampler
from historystore.windows import reading as reading_module
from historystore.writer import StoreWriter

FIELDS = ("observation", "action", "reward", "terminated", "truncated", "history", "step", "learner")
LEARNERS = [
    [[5, 8, 3, 9, -5], [10, 10, 10]],
    [[20, 20, 20, 20]],
    [[1, 2, 3, 4, 5, 6, -4], [25], [2] * 12 + [1]],
    [[7] * 12],
]


@pytest.fixture(scope="module", params=["hdf5", "arrow", "arrow-archive"])
def store(tmp_path_factory, request):
    """A store of many shards, so that histories lie in pieces."""
    store = make_store(tmp_path_factory.mktemp("stores") / "known", LEARNERS, seal_bytes=600, way=request.param)
    assert len(store.shard_names) > 5
    assert len(store.histories.piece_shard) > len(store.histories)
    return store


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(reading_module, "BLOCK_STEPS", 4)


def slow_windows(stores, addresses, length, fields):
    """Put windows together one step at a time, from whole histories."""
    learners = [learner for store in stores for learner in store.learners]
    recorded = []
    for position, learner in enumerate(learners):
        for history in learner.histories:
            names = [name for name in history.fields if name.split("/")[0] in fields]
            columns = history.read(fields=names)
            columns["learner"] = np.full(history.num_steps, position)
            columns["step"] = np.arange(history.num_steps)
            columns["episode_start"] = np.isin(columns["step"], history.episodes.first_step)
            recorded.append(columns)
    windows = []
    for address in addresses:
        window = {}
        for run in address:
            for step in range(run.start, run.stop):
                values = {name: column[step] for name, column in recorded[run.history].items()}
                for name, value in {**values, "history": run.history, "mask": True}.items():
                    window.setdefault(name, []).append(value)
        windows.append({name: np.array(column) for name, column in window.items()})
    return windows


def assert_same_windows(batch, slow, length):
    for name, column in batch.items():
        assert column.shape[:2] == (len(slow), length)
        for got, window in zip(column, slow, strict=True):
            filled = len(window[name])
            np.testing.assert_array_equal(got[:filled], window[name])
            padding = -1 if name in ("history", "step", "learner") else 0
            assert (got[filled:] == padding).all()


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), cache_bytes=st.sampled_from([1, 1000, 1 << 20]), with_twin=st.booleans())
def test_windows_are_those_of_the_slow_reading(store, small_blocks, data, cache_bytes, with_twin):
    stores = [store, store] if with_twin else [store]
    num_steps = np.concatenate([each.histories.num_steps for each in stores]).tolist()
    run = st.integers(0, len(num_steps) - 1).flatmap(
        lambda history: st.tuples(st.integers(0, num_steps[history] - 1), st.integers(1, 16)).map(
            lambda span: Run(history, span[0], min(span[0] + span[1], num_steps[history]))
        )
    )
    addresses = data.draw(st.lists(st.lists(run, max_size=4).map(tuple), min_size=1, max_size=6))
    length = max(sum(run.stop - run.start for run in address) for address in addresses) + data.draw(st.integers(0, 3))
    addresses = [address for address in addresses if address]
    reader = WindowReader(stores, fields=FIELDS, cache_bytes=cache_bytes)
    for _ in range(2):
        assert_same_windows(reader.read(addresses, length), slow_windows(stores, addresses, length, FIELDS), length)


def test_fields_come_in_their_logical_dtypes(store):
    windows = WindowReader([store], fields=FIELDS).read([(Run(0, 0, 5),)], 5)
    assert {name: column.dtype.str for name, column in windows.items()} == {
        "observation/place": "<i8",
        "observation/time": "<f4",
        "action": "<i8",
        "reward": "<f4",
        "terminated": "|b1",
        "truncated": "|b1",
        "history": "<i8",
        "step": "<i8",
        "learner": "<i8",
        "episode_start": "|b1",
        "mask": "|b1",
    }


def test_positions_of_a_spliced_window_follow_the_window(store):
    """What a model takes for the previous step is the position before, so the values must lie in the window's order."""
    sampler = WindowSampler(Histories.of([store]), length=20, episode_stride=(1, 2), splice=True)
    addresses = sampler.sample(np.random.default_rng(0), 300)
    windows = WindowReader([store], fields=("observation/time", "action", "reward", "history", "step")).read(
        addresses, 20
    )
    histories = [history for learner in store.learners for history in learner.histories]
    recorded = [history.read(fields=("action", "reward")) for history in histories]
    num_splices = 0
    for window in range(len(addresses)):
        filled = int(windows["mask"][window].sum())
        for i in range(1, filled):
            before, step = windows["history"][window, i - 1], windows["step"][window, i - 1]
            assert windows["action"][window, i - 1] == recorded[before]["action"][step]
            assert windows["reward"][window, i - 1] == recorded[before]["reward"][step]
            assert windows["observation/time"][window, i - 1, 2] == step
            is_splice = (windows["history"][window, i], windows["step"][window, i]) != (before, step + 1)
            num_splices += is_splice
            assert windows["episode_start"][window, i] or not is_splice
        assert windows["mask"][window].tolist() == [True] * filled + [False] * (20 - filled)
    assert num_splices > 100


def test_an_episode_starts_after_each_end_and_nowhere_else(store):
    histories = Histories.of([store])
    addresses = [(Run(i, 0, int(n)),) for i, n in enumerate(histories.num_steps)]
    windows = WindowReader([store], fields=("terminated", "truncated")).read(addresses, int(histories.num_steps.max()))
    ends = windows["terminated"] | windows["truncated"]
    expected = windows["mask"].copy()
    expected[:, 1:] &= ends[:, :-1]
    np.testing.assert_array_equal(windows["episode_start"], expected)


def test_values_outside_their_bounds_are_read_as_recorded(tmp_path):
    store = make_store(tmp_path / "known", [[[30] * 3]], seal_bytes=1)
    wild = steps_of(9, [[30] * 3])
    wild["observation/place"] = wild["observation/place"] + 1000
    with StoreWriter(historystore.store.open(store.path, mode="a")) as writer:
        add(writer, 9, [[30] * 3], extra={"observation/place": wild["observation/place"]})
    store.refresh()
    addresses = [(Run(0, 0, 90),), (Run(1, 0, 90),), (Run(0, 5, 95 - 5),)]
    windows = WindowReader([store], fields=("observation/place",)).read(addresses, 90)
    assert_same_windows(windows, slow_windows([store], addresses, 90, ("observation",)), 90)
    assert windows["observation/place"].max() > 999


def test_a_reader_can_be_pickled_and_forked(store):
    reader = WindowReader([store], fields=FIELDS)
    addresses = [(Run(2, 3, 13), Run(4, 0, 5))]
    expected = reader.read(addresses, 15)
    again = pickle.loads(pickle.dumps(reader)).read(addresses, 15)
    for name, column in expected.items():
        np.testing.assert_array_equal(again[name], column)
    child = os.fork()
    if child == 0:
        other = reader.read([(Run(3, 0, 20),)], 20)
        os._exit(0 if other["step"][0].tolist() == list(range(20)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_reader_goes_and_takes_its_memory_along_at_once(store):
    reader = WindowReader([store])
    reader.read([(Run(0, 0, 5),)], 5)
    gone = weakref.ref(reader)
    del reader
    assert gone() is None


def test_a_refreshed_store_leaves_readers_alone(tmp_path):
    store = make_store(tmp_path / "known", [[[10]], [[10]]])
    reader = WindowReader([store], fields=("observation/time",))
    expected = reader.read([(Run(0, 0, 10),), (Run(1, 0, 10),)], 10)["observation/time"]
    with StoreWriter(historystore.store.open(store.path, mode="a")) as writer:
        for number in range(2, 8):
            add(writer, number, [[10]])
    store.refresh()
    got = WindowReader([store], fields=("observation/time",)).read([(Run(i, 0, 10),) for i in range(8)], 10)
    assert sorted(got["observation/time"][:, 0, 0]) == list(range(8))
    reader = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(reader.read([(Run(0, 0, 10),), (Run(1, 0, 10),)], 10)["observation/time"], expected)


def test_a_single_shard_is_read_like_a_store(tmp_path):
    store = make_store(tmp_path / "known", [[[10]], [[12, 8]]])
    (shard,) = (store.path / "shards").iterdir()
    addresses = [(Run(0, 1, 9),), (Run(1, 2, 10),)]
    alone = WindowReader([historystore.store.open(shard)], fields=FIELDS).read(addresses, 8)
    for name, column in WindowReader([store], fields=FIELDS).read(addresses, 8).items():
        np.testing.assert_array_equal(alone[name], column)


def test_how_steps_are_packed_does_not_change_the_windows(tmp_path):
    stores = [
        make_store(tmp_path / name, LEARNERS, seal_bytes=size) for name, size in [("one", 1 << 26), ("many", 900)]
    ]
    assert [len(store.shard_names) == 1 for store in stores] == [True, False]
    windows = []
    for store in stores:
        sampler = WindowSampler(Histories.of([store]), length=25, episode_stride=(1, 3), from_start=0.3, splice=True)
        addresses = sampler.sample(np.random.default_rng(5), 64)
        windows.append(WindowReader([store], fields=FIELDS).read(addresses, 25))
    for name, column in windows[0].items():
        np.testing.assert_array_equal(windows[1][name], column)


def test_a_damaged_shard_is_never_returned_as_data(tmp_path):
    store = make_store(tmp_path / "known", [[[4000] * 4] * 2])
    (shard,) = (store.path / "shards").iterdir()
    addresses = [(Run(i, start, start + 100),) for i in range(2) for start in range(0, 16_000, 100)]
    expected = WindowReader([store]).read(addresses, 100)
    whole, found = shard.read_bytes(), 0
    store.close()
    for place in np.random.default_rng(0).integers(0, len(whole), 16).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        shard.chmod(0o644)
        shard.write_bytes(bytes(damaged))
        try:
            windows = WindowReader([historystore.store.open(store.path)]).read(addresses, 100)
        except DamagedData as error:
            found += str(shard) in str(error)
            continue
        for name, column in expected.items():
            np.testing.assert_array_equal(windows[name], column)
    assert found > 5


def test_a_reader_goes_on_after_damage_is_repaired(tmp_path):
    store = make_store(tmp_path / "known", [[[40]]])
    (shard,) = (store.path / "shards").iterdir()
    away = tmp_path / "away"
    reader = WindowReader([store])
    expected = WindowReader([store]).read([(Run(0, 0, 40),)], 40)
    shutil.move(shard, away)
    with pytest.raises(FileNotFoundError):
        reader.read([(Run(0, 0, 40),)], 40)
    shutil.move(away, shard)
    np.testing.assert_array_equal(reader.read([(Run(0, 0, 40),)], 40)["action"], expected["action"])


def test_steps_whose_episode_is_not_recorded_are_an_episode_of_their_own(tmp_path):
    """Where the shard with an episode's end is lost, its first steps are still in the history."""
    store = make_store(tmp_path / "known", [[[10, 10, 10]]], seal_bytes=1, block=4)
    lost = int(store.histories.piece_shard[-1])
    (store.path / "shards" / store.shard_names[lost]).unlink()
    store = historystore.store.open(store.path)
    histories = Histories.of([store])
    assert histories.num_steps.tolist() == store.histories.num_steps.tolist() == [28]
    assert histories.episode_stop.tolist() == [10, 20, 28]


def test_stores_of_other_spaces_are_refused_together(tmp_path):
    here = make_store(tmp_path / "here", [[[10]]])
    there = historystore.store.create(
        tmp_path / "there", family="known", observation_space=OBSERVATION_SPACE, action_space=gym.spaces.Discrete(6)
    )
    with pytest.raises(SpaceMismatch, match=r"there: another action_space than .*here, expected .*, got .*Read stores"):
        WindowReader([here, there])


def test_an_unknown_field_gets_one_line(store):
    with pytest.raises(MissingField) as error:
        WindowReader([store], fields=("observation", "value"))
    assert str(error.value) == (
        f"{store.path}: no history has a field 'value', expected among observation/place, observation/time, action, "
        "reward, terminated, truncated, history, step, learner. Choose among those."
    )


def test_a_field_that_some_histories_lack_names_their_learners(tmp_path):
    store = make_store(tmp_path / "known", [[[10]]])
    with StoreWriter(historystore.store.open(store.path, mode="a")) as writer:
        spec = add(writer, 5, [[12]], extra={"value": np.ones((12, 1), np.float32)})
    store.refresh()
    reader = WindowReader([store], fields=("value",))
    (other,) = [learner for learner in store.learners if learner.id != spec.id]
    with_value = store.learner(spec.id).histories[0].index
    assert reader.read([(Run(with_value, 0, 12),)], 12)["value"].sum() == 12
    message = (
        f"{store.path}: 1 learners have no field 'value' of shape (): {other.id[:12]}. "
        "Leave the field out, or those learners."
    )
    for lacking in (
        lambda: reader.check_fields(np.array([0, 1])),
        lambda: reader.read([(Run(1 - with_value, 0, 5),)], 5),
    ):
        with pytest.raises(MissingField) as error:
            lacking()
        assert str(error.value) == message


@pytest.mark.parametrize("run", [Run(0, 25, 31), Run(99, 0, 5), Run(0, 10_000, 10_001), Run(1, 30, 40)])
def test_an_address_beyond_its_history_gets_one_line(store, run):
    position = next(i for i, n in enumerate(store.histories.num_steps) if n == 30)
    run = run._replace(history=position) if run.history < 2 else run
    with pytest.raises(InvalidValue) as error:
        WindowReader([store]).read([(run,)], 10)
    assert str(error.value) == f"address: {run} goes beyond its history. Use steps that the history has."


def test_a_window_longer_than_asked_for_gets_one_line(store):
    with pytest.raises(InvalidValue, match="a window has 9 steps, expected at most 8"):
        WindowReader([store]).read([(Run(0, 0, 9),)], 8)


def test_no_windows_are_an_empty_batch(store):
    assert WindowReader([store]).read(AddressBatch.of([]), 8)["action"].shape == (0, 8)
    assert ACTION_SPACE.n == 5
