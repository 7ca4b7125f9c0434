"""Streams of windows: one order whoever reads it, resumed exactly, by the real DataLoader and torchdata's."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader
from window_stores import make_store, spec_of

from historystore.errors import InvalidValue, SpaceMismatch
from historystore.packed import pack
from historystore.store import create
from historystore.torch import WindowDataset, WindowRange, WindowStream
from historystore.writer import StoreWriter

OPTIONS = {
    "context_length": 24,
    "num_windows": 43,
    "fields": ("observation", "action", "step"),
    "cache_bytes": 3_000_000,
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    learners = [[[6, 5, 4, 8, 7, 9, 11] * 4, [10] * 20]] * 6
    return [
        make_store(folder / "large", learners, seal_bytes=4000),
        make_store(folder / "small", [[[50] * 3]] * 2, seal_bytes=1 << 26),
    ]


@pytest.fixture(scope="module")
def dataset(stores):
    return WindowDataset(stores[0].path, **OPTIONS)


@pytest.fixture(scope="module")
def datasets(stores, dataset):
    return [dataset, WindowDataset(stores[1].path, **{**OPTIONS, "num_windows": 5})]


def keys_of(batches):
    """What tells every window of a test from all others: learner, stream and first step, in the order given."""
    time = [batch["observation/time"][:, 0] for batch in batches]
    return [tuple(key) for part in time for key in part.int().tolist()]


def stream_of(dataset, *, epoch=0, state=None, **arguments):
    stream = WindowStream(dataset, **{"batch_size": 4, **arguments})
    if state is not None:
        stream.load_state_dict(state)
    else:
        stream.set_epoch(epoch)
    return stream


def assert_same(got, expected):
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            assert torch.equal(one[name], other[name]), name


def test_an_epoch_holds_each_window_once(dataset):
    stream = stream_of(dataset)
    numbers = stream.orders[0]._places.numbers(stream.orders[0]._pass(0).places(0, 43))
    assert sorted(numbers.tolist()) == list(range(43))
    batches = list(stream)
    assert [len(batch["step"]) for batch in batches] == [4] * 10 + [3]
    assert len(stream) == 11
    assert len(set(keys_of(batches))) == 43


def test_windows_are_what_the_store_holds(dataset):
    for batch in stream_of(dataset):
        time = batch["observation/time"][..., 2]
        assert torch.equal(time, batch["step"].float())
        assert torch.equal(time.diff(dim=1), torch.ones(len(time), 23))
        assert batch["mask"].all()


def test_another_epoch_or_seed_is_another_order_and_other_windows(dataset):
    keys = [keys_of(stream_of(dataset, **how)) for how in ({}, {"epoch": 1}, {"seed": 1})]
    assert all(len(set(a) & set(b)) < 30 and a != b for i, a in enumerate(keys) for b in keys[:i])


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize("options", [{}, {"episode_stride": (1, 3), "from_start": 0.25, "splice": True}])
@pytest.mark.parametrize(("num_workers", "context"), [(0, None), (1, "fork"), (2, "spawn"), (3, "fork")])
def test_order_does_not_depend_on_workers(stores, options, num_workers, context):
    stream = stream_of(WindowDataset(stores[0].path, **OPTIONS, **options), epoch=2)
    expected = list(stream)
    loader = DataLoader(stream, batch_size=None, num_workers=num_workers, multiprocessing_context=context)
    assert len(loader) == len(expected)
    assert_same(list(loader), expected)


def test_workers_that_live_on_follow_the_epoch(dataset):
    stream = stream_of(dataset)
    how = {"num_workers": 2, "multiprocessing_context": "fork", "persistent_workers": True}
    loader = DataLoader(stream, batch_size=None, **how)
    epochs = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        epochs.append(list(loader))
    assert keys_of(epochs[0]) != keys_of(epochs[1])
    assert_same(epochs[2], epochs[0])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.integers(1, 20),
    num_ranks=st.integers(1, 5),
    epoch=st.integers(0, 3),
    num_windows=st.none() | st.integers(1, 90),
    is_mixed=st.booleans(),
    drop_last=st.booleans(),
)
def test_ranks_share_every_sample_of_an_epoch(
    dataset, datasets, batch_size, num_ranks, epoch, num_windows, is_mixed, drop_last
):
    source = datasets if is_mixed else dataset
    how = {"num_windows": num_windows, "epoch": epoch}
    expected = keys_of(stream_of(source, batch_size=7, **how))
    streams = [
        stream_of(source, batch_size=batch_size, rank=rank, num_ranks=num_ranks, drop_last=drop_last, **how)
        for rank in range(num_ranks)
    ]
    ranks = [list(stream) for stream in streams]
    assert [len(batches) for batches in ranks] == [len(stream) for stream in streams]
    steps = [
        keys_of([batches[i] for batches in ranks if i < len(batches)]) for i in range(max(map(len, ranks), default=0))
    ]
    size = batch_size * num_ranks
    kept = len(expected) // size * size if drop_last else len(expected)
    assert [key for step in steps for key in step] == expected[:kept]
    if drop_last:
        assert len(set(map(len, ranks))) == 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), is_mixed=st.booleans())
def test_a_resume_is_exact_with_other_batches_and_ranks(dataset, datasets, data, is_mixed):
    source = datasets if is_mixed else dataset
    expected = keys_of(stream_of(source, epoch=1))
    seen, state = [], {"epoch": 1, "sample": 0, "order": stream_of(source).state_dict()["order"]}
    for _ in range(3):
        batch_size, num_ranks = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 3))
        how = {"batch_size": batch_size, "num_ranks": num_ranks, "state": state}
        streams = [stream_of(source, rank=rank, **how) for rank in range(num_ranks)]
        left = streams[0].num_windows - state["sample"]
        num_steps = data.draw(st.integers(0, -(-left // (batch_size * num_ranks))))
        iterators = [iter(stream) for stream in streams]
        for _ in range(num_steps):
            seen += keys_of([batch for iterator in iterators if (batch := next(iterator, None)) is not None])
        states = [stream.state_dict(num_batches=num_steps) for stream in streams]
        if num_steps:
            states += [streams[-1].state_dict()]  # the last rank has a share in every step
        assert all(each == states[0] for each in states)
        state = states[0]
    seen += keys_of(stream_of(source, state=state))
    assert seen == expected


def test_after_an_epoch_the_next_one_comes(dataset):
    stream = stream_of(dataset, epoch=3)
    list(stream)
    state = stream.state_dict()
    assert (state["epoch"], state["sample"]) == (4, 0)
    again = stream_of(dataset, state=state)
    assert again.epoch == 4
    assert_same(list(again), list(stream_of(dataset, epoch=4)))


def test_a_resumed_epoch_is_whole_when_it_comes_again(dataset):
    stream = stream_of(dataset, state=stream_of(dataset).state_dict(num_batches=5))
    stream.set_epoch(0)  # as every loop over epochs begins
    assert len(list(stream)) == 6
    stream.set_epoch(1)
    assert len(list(stream)) == len(stream) == 11


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
def test_batches_read_by_workers_are_counted_by_their_consumer(dataset):
    stream = stream_of(dataset)
    batches = list(DataLoader(stream, batch_size=None, num_workers=2))
    with pytest.raises(InvalidValue) as error:
        stream.state_dict()
    assert str(error.value) == (
        "stream: windows were read by workers, whose batches are counted by their consumer. Give num_batches, those of "
        "this iteration so far, or use torchdata's StatefulDataLoader and its state_dict()."
    )
    again = stream_of(dataset, state=stream.state_dict(num_batches=3))
    assert_same(list(DataLoader(again, batch_size=None, num_workers=3)), batches[3:])


def stateful(stream, num_workers, **how):
    context = {"multiprocessing_context": "fork"} if num_workers else {}
    return StatefulDataLoader(stream, batch_size=None, num_workers=num_workers, **context, **how)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("num_batches", [0, 1, 4, 10, 11])
def test_torchdata_resumes_by_itself(dataset, num_workers, num_batches):
    expected = list(stream_of(dataset, epoch=1))
    loader = stateful(stream_of(dataset, epoch=1), num_workers)
    iterator = iter(loader)
    for _ in range(num_batches):
        next(iterator)
    state = pickle.loads(pickle.dumps(loader.state_dict()))
    del iterator
    stream = stream_of(dataset)
    again = stateful(stream, num_workers)
    again.load_state_dict(state)
    assert_same(list(again), expected[num_batches:])
    stream.set_epoch(2)
    assert_same(list(again), list(stream_of(dataset, epoch=2)))


def test_torchdata_keeps_epochs_whole_when_workers_live_on(dataset):
    loader = stateful(stream_of(dataset), 2, persistent_workers=True)
    iterator = iter(loader)
    for _ in range(4):
        next(iterator)
    state = loader.state_dict()
    stream = stream_of(dataset)
    again = stateful(stream, 2, persistent_workers=True)
    again.load_state_dict(state)
    assert len(list(again)) == 7
    for epoch in (1, 2):
        stream.set_epoch(epoch)
        assert_same(list(again), list(stream_of(dataset, epoch=epoch)))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_torchdata_goes_on_with_the_next_epoch_after_a_whole_one(dataset, num_workers):
    loader = stateful(stream_of(dataset), num_workers)
    assert len(list(loader)) == 11
    stream = stream_of(dataset)
    again = stateful(stream, num_workers)
    again.load_state_dict(loader.state_dict())
    stream.set_epoch(1)
    assert_same(list(again), list(stream_of(dataset, epoch=1)))


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize(("num_workers", "every"), [(0, 1), (2, 1), (3, 1), (2, 3)])
def test_torchdata_states_load_with_other_workers_batches_and_ranks(dataset, num_workers, every):
    expected = keys_of(stream_of(dataset, epoch=1))
    for num_batches in (0, 1, 4, 10, 11):
        loader = stateful(stream_of(dataset, epoch=1), num_workers, snapshot_every_n_steps=every)
        iterator = iter(loader)
        for _ in range(num_batches):
            next(iterator)
        how = {"state": loader.state_dict(), "batch_size": 5, "num_ranks": 2}
        ranks = [list(stateful(stream_of(dataset, rank=rank, **how), rank)) for rank in range(2)]
        steps = [keys_of([batches[i] for batches in ranks if i < len(batches)]) for i in range(max(map(len, ranks)))]
        assert [key for step in steps for key in step] == expected[4 * num_batches :]


def test_torchdata_states_of_other_batches_get_one_line_from_the_loader(dataset):
    loader = stateful(stream_of(dataset), 1)
    state = loader.state_dict()
    assert len(list(loader)) == 11
    again = stateful(stream_of(dataset, batch_size=5), 1)
    again.load_state_dict(state)
    message = (
        "the loader's state is of 1 workers and 4 samples a step, expected 1 and 5. Load it into the stream itself"
    )
    with pytest.raises(InvalidValue, match=message):
        next(iter(again))


def test_sources_come_by_weight_and_go_round(datasets):
    stream = stream_of(datasets, weights=[3, 1], num_windows=4096)
    sources, _ = stream.mixture.dealt(0, 4096)
    assert np.bincount(sources).tolist() == [3072, 1024]
    assert all(2 <= part.sum() <= 40 for part in sources.reshape(-1, 64))
    assert len(keys_of([stream._read(0, 200)])) == 200


def test_a_source_goes_on_where_the_epoch_before_left_it(datasets):
    epochs = [keys_of(stream_of(datasets, weights=[1, 1], epoch=epoch)) for epoch in range(4)]
    assert {len(keys) for keys in epochs} == {48}
    sources, _ = stream_of(datasets, weights=[1, 1]).mixture.dealt(0, 4 * 48)
    keys = np.array([key for epoch in epochs for key in epoch])
    for source, size in ((0, 43), (1, 5)):
        mine = [tuple(key) for key in keys[sources == source].tolist()]
        order = stream_of(datasets, weights=[1, 1]).orders[source]
        expected = datasets[source].read(order.windows(0, len(mine)))
        assert mine == keys_of([expected])
        assert all(len(set(mine[i : i + size])) == size for i in range(0, len(mine) - size, size))


def test_a_mixture_without_weights_is_a_pass_over_each(datasets):
    stream = stream_of(datasets)
    sources, _ = stream.mixture.dealt(0, 48)
    assert stream.num_windows == 48
    assert abs(np.bincount(sources)[1] - 5) <= 5


def test_a_stream_survives_pickling(datasets):
    stream = stream_of(datasets, epoch=1)
    assert_same(list(pickle.loads(pickle.dumps(stream))), list(stream))


def test_ranks_come_from_torch_distributed(dataset, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    try:
        assert (stream_of(dataset).rank, stream_of(dataset).num_ranks) == (0, 1)
        assert stream_of(dataset, rank=1, num_ranks=3).rank == 1
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("change", "is_same"),
    [({}, True), ({"batch_size": 9}, True), ({"seed": 1}, False), ({"num_windows": 40}, False)],
)
def test_a_state_of_another_order_gets_one_line(dataset, change, is_same):
    state = stream_of(dataset).state_dict(num_batches=2)
    if is_same:
        stream_of(dataset, state=state, **change)
        return
    with pytest.raises(InvalidValue) as error:
        stream_of(dataset, state=state, **change)
    assert str(error.value) == (
        "stream: the state is of another order of samples. Give the same stores, in the same shards, the same windows, "
        "cache_bytes, weights, num_windows and seed; batches, ranks and workers may differ."
    )


@pytest.mark.parametrize(
    "options", [{"context_length": 23}, {"cache_bytes": 12_000_000}, {"num_windows": 44}, {"from_start": 0.5}]
)
def test_a_state_of_other_windows_is_refused(stores, dataset, options):
    other = WindowDataset(stores[0].path, **{**OPTIONS, **options})
    with pytest.raises(InvalidValue, match="the state is of another order"):
        stream_of(other, state=stream_of(dataset).state_dict())


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"model": 1},
            "stream: the state is not one of a stream, expected what state_dict() returned, of the stream or of its "
            "StatefulDataLoader, got keys model. Load the stream's own.",
        ),
        (
            {"epoch": -1, "sample": "2", "order": ""},
            "stream: the state is damaged, epoch: Input should be greater than or equal to 0; sample: Input should be "
            "a valid integer. Load another checkpoint.",
        ),
    ],
)
def test_what_is_no_state_gets_one_line(dataset, state, message):
    with pytest.raises(InvalidValue) as error:
        stream_of(dataset, state=state)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"batch_size": 0},
            "stream: expected batch_size >= 1, num_windows >= 1 and 0 <= rank < num_ranks, got 0, 43 and 0 of 1. "
            "Correct them.",
        ),
        (
            {"rank": 2, "num_ranks": 2},
            "stream: expected batch_size >= 1, num_windows >= 1 and 0 <= rank < num_ranks, got 4, 43 and 2 of 2. "
            "Correct them.",
        ),
        ({"weights": [1, 2]}, "stream: weights are not one a dataset, expected 1, got 2. Give as many."),
        ({"seed": -1}, "dataset: seed is not a whole number from 0 to 2**64 - 1, got -1. Use one."),
        ({"epoch": -1}, "stream: epoch is not a whole number from 0 up, got -1. Count from 0."),
    ],
)
def test_bad_arguments_get_one_line(dataset, arguments, message):
    with pytest.raises(InvalidValue) as error:
        stream_of(dataset, **arguments)
    assert str(error.value) == message


def test_no_dataset_gets_one_line():
    with pytest.raises(InvalidValue, match=r"stream: there is no dataset to read. Give one at least."):
        WindowStream([], batch_size=4)


def test_datasets_that_read_different_windows_get_one_line(stores, dataset):
    other = WindowDataset(stores[0].path, **{**OPTIONS, "fields": ("action", "step")})
    with pytest.raises(SpaceMismatch) as error:
        WindowStream([dataset, other], batch_size=4)
    assert str(error.value) == (
        "stream: the datasets read different windows, expected 24 steps of observation/place <i8 (2,), "
        "observation/time <f4 (3,), action <i8 (), step, got 24 steps of action <i8 (), step. "
        "Give all the same fields and context_length."
    )


def test_values_of_any_size_cannot_be_tensors(tmp_path):
    space = gym.spaces.Dict({"place": gym.spaces.Discrete(9), "text": gym.spaces.Text(5)})
    store = create(tmp_path / "text", family="known", observation_space=space, action_space=gym.spaces.Discrete(5))
    place, text = np.arange(20)[:, None] % 9, np.array([[pack(space["text"], "abc")]] * 20, dtype=object)
    steps = {"observation/place": place, "observation/text": text, "action": place % 5, "reward": place * 1.0}
    steps |= {"terminated": place == 8, "truncated": place < 0}
    ends = {"observation/place": place[:2, 0], "observation/text": text[:2, 0]}
    with StoreWriter(store) as writer:
        learner = writer.begin(spec_of(0, num_streams=1, num_steps=20))
        learner.add_steps(steps, final_observations=ends, next_observation={k: v[:1] for k, v in ends.items()})
        learner.finish()
    store.refresh()
    with pytest.raises(InvalidValue) as error:
        WindowDataset(store, context_length=5)
    assert str(error.value) == (
        f"{store.path}: field 'observation/text' has values of no fixed shape, expected arrays. "
        "Choose other fields, or read histories one by one with history.read."
    )
    dataset = WindowDataset(store, context_length=5, fields=("observation/place", "action"))
    assert sum(len(batch["action"]) for batch in WindowStream(dataset, batch_size=3)) == 4


def test_numbers_of_a_dataset_stay_apart_from_its_stream(dataset):
    before = dataset[WindowRange(0, 0, 43)]
    list(stream_of(dataset))
    assert torch.equal(dataset[WindowRange(0, 0, 43)]["step"], before["step"])
