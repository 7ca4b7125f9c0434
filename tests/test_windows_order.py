"""The order of a stream: every window once a pass, shuffled, and near each other on the disk."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from window_stores import add, make_store

from historystore.errors import InvalidValue
from historystore.windows import Histories, Mixture, StreamOrder, WindowReader, WindowSampler, window_draws
from historystore.windows.draws import random_words
from historystore.windows.layout import Layout
from historystore.windows.places import Places
from historystore.windows.shuffle import Shuffle, ShuffledPass
from historystore.writer import StoreWriter

SHUFFLES = st.builds(
    Shuffle.fitting,
    st.integers(1, 2000),
    num_blocks=st.integers(1, 200),
    num_slots=st.integers(1, 300),
    window_blocks=st.floats(0, 5),
)
LARGE = Shuffle.fitting(20_000, num_blocks=500, num_slots=60, window_blocks=0.1)


def pass_of(shuffle, *, seed=0, epoch=0):
    return ShuffledPass(shuffle, seed=seed, epoch=epoch, lane=1)


def parts_of(order, cuts, stop):
    """An order read part by part, each part by a reader of its own."""
    ends = sorted({0, *(cut % (stop + 1) for cut in cuts), stop})
    return [order(low, high) for low, high in pairwise(ends)]


@given(SHUFFLES, st.integers(0, 5))
def test_a_pass_holds_every_place_once(shuffle, epoch):
    places = pass_of(shuffle, epoch=epoch).places(0, shuffle.num_windows)
    assert np.array_equal(np.sort(places), np.arange(shuffle.num_windows))


@given(SHUFFLES, st.lists(st.integers(0, 10_000), max_size=5))
def test_any_part_of_a_pass_is_the_same_read_by_itself(shuffle, cuts):
    parts = parts_of(lambda low, high: pass_of(shuffle).places(low, high), cuts, shuffle.num_windows)
    assert np.array_equal(np.concatenate(parts), pass_of(shuffle).places(0, shuffle.num_windows))


def test_another_seed_or_epoch_is_another_order():
    orders = [pass_of(LARGE, **how).places(0, 1000) for how in ({}, {"seed": 1}, {"epoch": 1})]
    assert all((a != b).mean() > 0.9 for i, a in enumerate(orders) for b in orders[:i])


def test_no_more_groups_are_in_use_at_a_time_than_fit_the_memory():
    groups = pass_of(LARGE).places(0, LARGE.num_windows) // LARGE.group_windows
    size = LARGE.num_groups * LARGE.group_windows
    in_use = [len(np.unique(groups[start : start + size])) for start in range(0, LARGE.num_windows, size)]
    assert max(in_use) * (LARGE.group_windows * 500 / 20_000 + 1.1) <= 60
    assert np.mean(in_use) > LARGE.num_groups * LARGE.num_rounds * 0.9


def test_a_group_is_used_in_one_stretch_of_the_pass():
    groups = pass_of(LARGE).places(0, LARGE.num_windows) // LARGE.group_windows
    size = LARGE.num_groups * LARGE.group_windows
    used = [set(groups[start : start + size].tolist()) for start in range(0, LARGE.num_windows, size)]
    entries = [len(now - before) for before, now in zip([set(), *used], used, strict=False)]
    assert sum(entries) <= -(-LARGE.num_windows // LARGE.group_windows) + LARGE.num_groups * LARGE.num_rounds


def test_neighbours_are_apart_and_a_batch_is_from_many_places():
    places = pass_of(LARGE).places(0, LARGE.num_windows)
    assert (np.abs(np.diff(places)) < LARGE.num_rounds).mean() < 0.01
    batches = places[: LARGE.num_windows // 128 * 128].reshape(-1, 128) // LARGE.group_windows
    assert min(len(np.unique(batch)) for batch in batches) >= LARGE.num_groups * LARGE.num_rounds * 0.8


def test_all_is_shuffled_at_once_where_it_fits_the_memory():
    shuffle = Shuffle.fitting(5000, num_blocks=100, num_slots=200, window_blocks=0.1)
    places = pass_of(shuffle).places(0, 5000)
    # The mean of a random half is that of all, to within five standard deviations.
    assert abs(places[:2500].mean() - 2499.5) < 5 * 5000 / np.sqrt(12 * 5000)
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 5 / np.sqrt(5000)


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=5),
    st.integers(0, 2**64 - 1),
    st.integers(0, 10**12),
    st.lists(st.integers(0, 10_000), max_size=4),
)
def test_the_source_of_a_sample_is_a_function_of_its_number(weights, seed, first, cuts):
    mixture = Mixture.of(weights, seed=seed)
    sources, before = mixture.dealt(first, first + 3000)
    seen = before.copy()
    for low, part in zip(
        sorted({0, *(cut % 3001 for cut in cuts)} - {3000}),
        parts_of(lambda low, high: mixture.dealt(first + low, first + high), cuts, 3000),
        strict=True,
    ):
        assert np.array_equal(part[1], seen)
        assert np.array_equal(part[0], sources[low : low + len(part[0])])
        seen += np.bincount(part[0], minlength=len(weights))
    assert before.sum() == first


@given(st.lists(st.floats(0.05, 20), min_size=2, max_size=5), st.integers(1, 200_000))
def test_sources_have_their_shares_to_within_a_turn(weights, num_samples):
    mixture = Mixture.of(weights, seed=0)
    _, before = mixture.dealt(num_samples, num_samples + 1)
    share = np.array(weights) / np.sum(weights)
    turn = num_samples // mixture.turn_samples * mixture.turn_samples
    assert (np.abs(mixture.dealt(turn, turn + 1)[1] - share * turn) <= 1.01).all()
    assert (before <= share * (turn + mixture.turn_samples) + 1.01).all()


@pytest.mark.parametrize("weights", [[], [1, 0], [1, -1], [1, float("nan")], [1, float("inf")], [1, 1e-9]])
def test_weights_that_are_none_get_one_line(weights):
    with pytest.raises(InvalidValue, match="stream: weights are not finite numbers above 0, each at least 1/1048576"):
        Mixture.of(weights, seed=0)


def test_words_are_the_same_wherever_reading_begins():
    words = random_words(0, 100, seed=3, epoch=4, lane=5)
    for start in range(9):
        assert np.array_equal(random_words(start, 40, seed=3, epoch=4, lane=5), words[start:40])
    assert not np.isin(random_words(0, 100, seed=3, epoch=4, lane=6), words).any()


def test_lanes_of_draws_are_apart_and_the_first_is_as_ever():
    index = np.arange(50)
    first = window_draws(index, seed=3, epoch=4, num_draws=4)
    assert np.array_equal(first, window_draws(index, seed=3, epoch=4, num_draws=4, lane=0))
    assert not np.isin(first, window_draws(index, seed=3, epoch=4, num_draws=4, lane=1)).any()
    words = np.random.Philox(key=np.array([3, 4], dtype=np.uint64), counter=0).random_raw(4)
    assert np.array_equal(first[0], (words >> np.uint64(11)) * 2.0**-53)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two learners of three streams each, recorded side by side: their histories lie in pieces over many shards."""
    store = make_store(tmp_path_factory.mktemp("stores") / "pieces", [])
    for seal_bytes in (2000, 4000):
        with StoreWriter(store, seal_bytes=seal_bytes) as writer:
            add(writer, seal_bytes, [[9, 12, 7] * 20] * 3)
    store.refresh()
    return store


def even_windows(histories, num_windows, **options):
    sampler = WindowSampler(histories, **options)
    draws = window_draws(np.arange(num_windows), seed=0, epoch=0, num_draws=sampler.num_draws)
    return sampler, sampler.even_windows(np.arange(num_windows), draws, num_windows=num_windows)


def test_even_windows_leave_no_step_out_twice_and_repeat_none_thrice(store):
    histories = Histories.of([store])
    _, windows = even_windows(histories, 160, length=20)
    seen = np.zeros((len(histories), 560), int)
    for history, start, stop in zip(windows.history, windows.start, windows.stop, strict=True):
        seen[history, start:stop] += 1
    assert seen.max() <= 2
    assert (seen[:, 20:-20] > 0).mean() > 0.75  # 1 - 1/e if they were drawn at random


@pytest.mark.parametrize("balance", ["steps", "histories", "tasks"])
@pytest.mark.parametrize("stride", [1, (1, 4)])
def test_even_windows_are_distributed_as_any_window(store, balance, stride):
    histories = Histories.of([store]).only(np.array([0, 1, 5])).part(0.0, 0.8)
    options = {"length": 15, "episode_stride": stride, "balance": balance, "from_start": 0.25}
    sampler, even = even_windows(histories, 20_000, **options)
    drawn = sampler.sample(np.random.default_rng(0), 20_000)
    for column in ("history", "start", "stop"):
        expected, got = getattr(drawn, column), getattr(even, column)
        assert abs(got.mean() - expected.mean()) < 6 * expected.std() / np.sqrt(20_000) + 1e-9


@pytest.mark.parametrize("num_windows", [1, 7, 100, 5000])
def test_each_window_has_one_place(store, num_windows):
    sampler = WindowSampler(Histories.of([store]).part(0.2, 0.9), length=20)
    places = Places.of(sampler, Layout.of([store], block_steps=16), num_windows=num_windows)
    assert places.num_windows == num_windows
    assert np.array_equal(np.sort(places.numbers(np.arange(num_windows))), np.arange(num_windows))


def test_neighbours_in_place_are_neighbours_on_the_disk(tmp_path):
    store = make_store(tmp_path / "wide", [[[28] * 20] * 20], seal_bytes=20_000, block=40)
    layout = Layout.of([store], block_steps=1024)  # a shard each
    sampler, windows = even_windows(Histories.of([store]), 1000, length=20)
    places = Places.of(sampler, layout, num_windows=1000)
    blocks = layout.row_of(windows.history, windows.start) // 1024

    def num_reads(order):
        return sum(len(np.unique(blocks[order][start : start + 50])) for start in range(0, 1000, 50))

    assert places.num_blocks == len(np.unique(blocks)) == layout.num_blocks >= 10
    assert num_reads(places.numbers(np.arange(1000))) < 0.5 * num_reads(np.arange(1000))


def test_an_order_goes_on_pass_after_pass(store):
    def order():
        reader = WindowReader([store], fields=("action",), cache_bytes=20_000)
        return StreamOrder(WindowSampler(Histories.of([store]), length=20), reader, num_windows=100, seed=5, source=0)

    whole = list(order().windows(0, 350))
    assert list(order().windows(95, 305)) == whole[95:305]
    assert len(set(whole[:100]) & set(whole[100:200])) < 20
    assert order().digest() == order().digest()
