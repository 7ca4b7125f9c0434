"""The PyTorch datasets: one order, whoever reads it."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from window_stores import add, make_store

import historystore.store
from historystore.errors import InvalidValue, MissingField, StoreNotFound
from historystore.splits import PARTS
from historystore.torch import WindowDataset, WindowRange
from historystore.writer import StoreWriter

OPTIONS = {
    "context_length": 24,
    "episode_stride": (1, 3),
    "from_start": 0.25,
    "splice": True,
    "num_windows": 40,
    "fields": ("observation", "action", "reward", "history", "step"),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    learners = [[[6, 5, 4, 8, 7, 9, 11] * 2, [10] * 10]] * 6
    return make_store(tmp_path_factory.mktemp("stores") / "known", learners, seal_bytes=4000)


@pytest.fixture(scope="module")
def dataset(store):
    return WindowDataset(store.path, **OPTIONS)


def items_of(loader):
    """All items of a loader, one after the other, batched or not."""
    batches = list(loader)
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor), name


@pytest.fixture(scope="module")
def expected(dataset):
    items = [dataset[i] for i in range(len(dataset))]
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_a_plain_loader_gives_the_windows_in_order(dataset, expected, batch_size):
    assert_same(items_of(DataLoader(dataset, batch_size=batch_size)), expected)


@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_whole_batches_are_the_same_windows(dataset, expected, batch_size):
    loader = DataLoader(dataset, sampler=dataset.batches(batch_size), batch_size=None)
    assert len(loader) == -(-40 // batch_size)
    assert_same(items_of(loader), expected)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_give_the_same_windows(dataset, expected, context):
    dataset[3]  # so that files are open when workers are forked
    workers = {"num_workers": 2, "multiprocessing_context": context}
    assert_same(items_of(DataLoader(dataset, sampler=dataset.batches(7), batch_size=None, **workers)), expected)


@pytest.mark.parametrize("is_whole", [True, False])
def test_workers_that_live_on_follow_the_epoch(store, is_whole):
    dataset = WindowDataset(store.path, **OPTIONS)
    how = {"sampler": dataset.batches(8), "batch_size": None} if is_whole else {"batch_size": 8}
    loader = DataLoader(dataset, **how, num_workers=2, multiprocessing_context="fork", persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        epochs.append(items_of(loader))
    assert not torch.equal(epochs[0]["step"], epochs[1]["step"])
    assert_same(epochs[2], epochs[0])


def test_shuffling_changes_only_the_order(dataset, expected):
    shuffled = items_of(DataLoader(dataset, batch_size=5, shuffle=True))
    assert sorted(shuffled["observation/time"].flatten(1).tolist()) == sorted(
        expected["observation/time"].flatten(1).tolist()
    )


def test_windows_are_a_function_of_seed_epoch_and_index(store, expected):
    def steps(seed, epoch):
        dataset = WindowDataset(store.path, **OPTIONS, seed=seed)
        dataset.set_epoch(epoch)
        return dataset[WindowRange(epoch, 0, 40)]["step"]

    assert torch.equal(steps(0, 0), expected["step"])
    others = [steps(1, 0), steps(0, 1), steps(1, 1), steps(2**64 - 1, 7)]
    assert all(not torch.equal(a, b) for i, a in enumerate(others) for b in [*others[:i], expected["step"]])


def test_an_epoch_that_broke_off_goes_on_exactly(dataset, expected):
    loader = DataLoader(dataset, sampler=dataset.batches(8, start=16), batch_size=None)
    assert_same(items_of(loader), {name: tensor[16:] for name, tensor in expected.items()})


def test_ranks_share_an_epoch(dataset, expected):
    batches = {}
    for rank in range(3):
        sampler = dataset.batches(6, rank=rank, num_ranks=3)
        batches.update({index.start: dataset[index] for index in sampler})
    in_order = [batches[start] for start in sorted(batches)]
    assert_same({name: torch.cat([batch[name] for batch in in_order]) for name in expected}, expected)


def test_the_last_batch_is_dropped_on_request(dataset):
    assert [index.stop - index.start for index in dataset.batches(16, drop_last=True)] == [16, 16]
    assert len(dataset.batches(16, drop_last=True)) == 2


def test_a_dataset_survives_pickling(dataset, expected):
    again = pickle.loads(pickle.dumps(dataset))
    assert_same(again[WindowRange(0, 0, 40)], expected)


def test_an_item_holds_the_fields_and_two_flags(store):
    item = WindowDataset(store.path, context_length=50)[0]
    assert {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in item.items()} == {
        "observation/place": ((50, 2), torch.int64),
        "observation/time": ((50, 3), torch.float32),
        "action": ((50,), torch.int64),
        "reward": ((50,), torch.float32),
        "episode_start": ((50,), torch.bool),
        "mask": ((50,), torch.bool),
    }


def test_an_epoch_holds_each_step_once_unless_told_otherwise(store):
    assert len(WindowDataset(store, context_length=50)) == store.num_steps // 50
    assert len(WindowDataset(store, context_length=50, num_windows=3)) == 3


def test_windows_beyond_the_epoch_are_refused(dataset):
    assert torch.equal(dataset[-1]["step"], dataset[39]["step"])
    with pytest.raises(IndexError):
        dataset[40]


def test_parts_of_a_split_share_no_task_and_leave_none_out(store):
    seen = []
    for part in PARTS:
        dataset = WindowDataset(
            store, context_length=20, split=part, split_seed=3, split_ratios=(3, 1, 2), num_windows=200
        )
        windows = dataset[WindowRange(0, 0, 200)]
        seen.append(set(windows["observation/time"][:, :, 0].unique().int().tolist()))
    assert [len(goals) for goals in seen] == [3, 1, 2]
    assert set.union(*seen) == set(range(6))


def test_windows_come_from_the_tasks_asked_for(store):
    dataset = WindowDataset([store.path], context_length=20, tasks=[{"goal": 4}, {"goal": 77}], num_windows=50)
    assert dataset[WindowRange(0, 0, 50)]["observation/time"][:, :, 0].unique().tolist() == [4]


def test_windows_come_from_a_part_of_the_histories(store):
    dataset = WindowDataset(store, context_length=10, history_part=(0.9, 1.0), num_windows=50, fields=("step",))
    assert dataset[WindowRange(0, 0, 50)]["step"].min() >= 80


def test_several_stores_and_single_shards_are_read_together(store, tmp_path):
    other = make_store(tmp_path / "other", [[[50] * 20]], seal_bytes=1 << 26)
    (shard,) = (other.path / "shards").iterdir()
    dataset = WindowDataset([store, shard], context_length=30, num_windows=300, fields=("history",))
    histories = dataset[WindowRange(0, 0, 300)]["history"].unique().tolist()
    assert histories == list(range(13))


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Learners whose last episodes return 0.5, 1 and 2 of a best 2."""
    store = make_store(tmp_path_factory.mktemp("stores") / "learned", [])
    with StoreWriter(store) as writer:
        for number, last in enumerate([0.5, 1.0, 2.0]):
            reward = np.zeros((40, 1), np.float32)
            reward[25::5] = last
            add(writer, number, [[5] * 8], best_return=2.0, extra={"reward": reward})
    store.refresh()
    return store


def test_learners_are_chosen_by_how_far_they_came(learned):
    def goals(**conditions):
        dataset = WindowDataset(learned, context_length=8, num_windows=60, **conditions)
        return dataset[WindowRange(0, 0, 60)]["observation/time"][:, :, 0].unique().tolist()

    # Ten episodes are asked for, eight are there: the mean is 3 of 8 of the last ones'.
    assert goals(min_progress=3 / 8) == [2]
    assert goals(min_progress=3 / 8 * 0.5) == [1, 2]
    assert goals(where=lambda learner: learner.spec.seed != 1) == [0, 2]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        (
            {"min_progress": 0.9, "tasks": [{"goal": 0}, {"goal": 1}]},
            "windows: no learner is left: 3 learners, of those 2 of the 2 tasks asked for, of those 0 with progress of "
            "at least 0.9. Ask for less, or record more.",
        ),
        (
            {"where": lambda learner: learner.status == "failed"},
            "windows: no learner is left: 3 learners, of those 0 that meet the given function. "
            "Ask for less, or record more.",
        ),
        (
            {"context_length": 41},
            "windows: a context of 41 steps is longer than every history, the longest has 40. "
            "Use a shorter context, or record more steps.",
        ),
        (
            {"split": "dev"},
            "split: no such part, expected one of train, validation, test, got 'dev'. Choose one.",
        ),
        ({"seed": -1}, "dataset: seed is not a whole number from 0 to 2**64 - 1, got -1. Use one."),
        ({"num_windows": 0}, "dataset: num_windows is not a whole number from 1 up, got 0. Use one."),
        (
            {"history_part": (0.5, 0.2)},
            "windows: a part of a history is not (start, stop) with 0 <= start < stop <= 1, got (0.5, 0.2). "
            "Use (0.9, 1.0) for the last tenth of its episodes.",
        ),
    ],
)
def test_bad_arguments_get_one_line(learned, conditions, message):
    with pytest.raises(InvalidValue) as error:
        WindowDataset(learned, **{"context_length": 8, **conditions})
    assert str(error.value) == message


def test_progress_needs_a_best_return(store):
    with pytest.raises(InvalidValue) as error:
        WindowDataset(store, min_progress=0.5)
    assert str(error.value) == (
        "windows: min_progress is a share of a task's best return, which 6 learners do not know, "
        f"{store.learners[0].id[:12]} among them. Choose learners by a function of your own instead."
    )


def test_a_field_that_no_history_has_gets_one_line(store):
    with pytest.raises(MissingField, match="no history has a field 'value', expected among observation/place"):
        WindowDataset(store, fields=("value",))


def test_no_store_gets_one_line(tmp_path):
    with pytest.raises(StoreNotFound):
        WindowDataset(tmp_path / "nowhere")
    with pytest.raises(InvalidValue, match=r"windows: there is no store to read. Give one at least."):
        WindowDataset([])


def test_an_empty_store_gets_one_line(tmp_path):
    store = make_store(tmp_path / "empty", [])
    with pytest.raises(InvalidValue, match="windows: no learner is left: 0 learners"):
        WindowDataset(historystore.store.open(store.path), fields=())
