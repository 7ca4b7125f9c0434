"""Samplers against a slow reading of what they promise: every window followed episode by episode."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historystore.errors import InvalidValue
from historystore.windows import AddressBatch, Histories, Run, WindowSampler, window_draws


def histories_of(learners, *, tasks=None):
    """Histories from, for each learner, for each of its streams, the lengths of its episodes."""
    streams = [(learner, sizes) for learner, each in enumerate(learners) for sizes in each]
    ends = [np.cumsum(sizes) for _, sizes in streams]
    learner = np.array([learner for learner, _ in streams])
    return Histories(
        index=np.arange(len(streams)) + 100,
        learner=learner,
        task=learner if tasks is None else np.array(tasks)[learner],
        first_episode=np.cumsum([0, *(len(sizes) for _, sizes in streams)]),
        episode_start=np.concatenate([end - sizes for end, (_, sizes) in zip(ends, streams, strict=True)]),
        episode_stop=np.concatenate(ends),
    )


def episodes_of(histories, position):
    low, high = histories.first_episode[position : position + 2]
    return list(zip(histories.episode_start[low:high].tolist(), histories.episode_stop[low:high].tolist(), strict=True))


def followed(episodes, *, episode, offset, stride, length):
    """The steps of the window that starts in an episode at an offset and keeps every stride-th episode."""
    steps = []
    for start, stop in episodes[episode::stride]:
        steps.extend(range(start + offset, stop))
        offset = 0
    return tuple(steps[:length])


def all_windows(histories, position, *, stride, length):
    """Every window that may be drawn in a history: the full ones, or else one for each episode sequence."""
    episodes = episodes_of(histories, position)
    every = [
        followed(episodes, episode=episode, offset=offset, stride=stride, length=length)
        for episode, (start, stop) in enumerate(episodes)
        for offset in range(stop - start)
    ]
    full = [steps for steps in every if len(steps) == length]
    openings = range(min(stride, len(episodes)))
    return full or [followed(episodes, episode=each, offset=0, stride=stride, length=length) for each in openings]


def steps_of(address):
    return tuple(step for run in address for step in range(run.start, run.stop))


PINNED_DRAWS = [0.011546754286331562, 0.24154919656271812, 0.11142585551493822]

stream = st.lists(st.integers(1, 6), min_size=1, max_size=8)
learners = st.lists(st.lists(stream, min_size=1, max_size=3), min_size=1, max_size=4)


@st.composite
def samplers(draw, **fixed):
    histories = histories_of(draw(learners))
    low = draw(st.integers(1, min(4, histories.num_episodes.max())))
    arguments = {
        "length": draw(st.integers(1, int(histories.num_steps.max()))),
        "episode_stride": (low, draw(st.integers(low, histories.num_episodes.max()))),
        "from_start": draw(st.sampled_from([0.0, 0.4, 1.0])),
        "splice": draw(st.booleans()),
        "balance": draw(st.sampled_from(["steps", "histories", "tasks"])),
    }
    return WindowSampler(histories, **{**arguments, **fixed})


@settings(deadline=None)
@given(sampler=samplers(splice=False, from_start=0.0), seed=st.integers(0, 1000))
def test_windows_are_those_of_the_slow_reading(sampler, seed):
    strides = range(sampler.strides.start, sampler.strides.stop)
    for address in sampler.sample(np.random.default_rng(seed), 20):
        position = address[0].history - 100
        possible = [
            window
            for stride in strides
            for window in all_windows(sampler.histories, position, stride=stride, length=sampler.length)
        ]
        assert {run.history for run in address} == {address[0].history}
        assert steps_of(address) in possible


@settings(deadline=None)
@given(sampler=samplers(from_start=1.0), seed=st.integers(0, 1000))
def test_windows_from_the_start_open_an_episode_sequence(sampler, seed):
    for address in sampler.sample(np.random.default_rng(seed), 20):
        first = [start for start, _ in episodes_of(sampler.histories, address[0].history - 100)]
        assert address[0].start in first[: sampler.strides[-1]]


@settings(deadline=None)
@given(sampler=samplers(splice=True), seed=st.integers(0, 1000))
def test_spliced_windows_go_on_in_time_with_whole_episodes_of_the_same_learner(sampler, seed):
    histories = sampler.histories
    for address in sampler.sample(np.random.default_rng(seed), 20):
        assert len({histories.learner[run.history - 100] for run in address}) == 1
        for before, after in pairwise(address):
            assert after.start >= before.stop
            assert after.start in [start for start, _ in episodes_of(histories, after.history - 100)]
            assert before.stop in [stop for _, stop in episodes_of(histories, before.history - 100)]
        assert sum(run.stop - run.start for run in address) <= sampler.length


@settings(deadline=None)
@given(sampler=samplers(), seed=st.integers(0, 1000), order=st.permutations(range(12)))
def test_a_window_depends_on_its_own_draws_alone(sampler, seed, order):
    draws = np.random.default_rng(seed).random((12, sampler.num_draws))
    together = list(sampler.windows(draws))
    assert list(sampler.windows(draws[list(order)])) == [together[i] for i in order]
    assert [sampler.windows(draws[i : i + 1])[0] for i in range(12)] == together


@settings(deadline=None)
@given(sampler=samplers(), corner=st.sampled_from([0.0, 1 - 2.0**-53]))
def test_the_outermost_draws_give_windows_too(sampler, corner):
    (address,) = sampler.windows(np.full((1, sampler.num_draws), corner))
    assert steps_of(address)


def test_spliced_streams_of_equal_episodes_lose_no_step():
    histories = histories_of([[[5] * 20] * 4])
    windows = WindowSampler(histories, length=30, splice=True, episode_stride=3).sample(np.random.default_rng(0), 200)
    assert (windows.num_steps == 30).all()
    assert len({run.history for address in windows for run in address}) == 4
    for address in windows:
        episodes = [step // 5 for run in address for step in range(run.start, run.stop)]
        assert {b - a for a, b in pairwise(episodes)} == {0, 3}


def test_all_starts_are_equally_likely():
    histories = histories_of([[[3, 4, 2, 5]], [[6, 6], [1, 1, 1, 1, 1, 1]]])
    sampler = WindowSampler(histories, length=4, episode_stride=2)
    expected = {
        (100 + position, window)
        for position in range(3)
        for window in all_windows(histories, position, stride=2, length=4)
    }
    num_windows = 300 * len(expected)
    seen = Counter(
        (address[0].history, steps_of(address)) for address in sampler.sample(np.random.default_rng(1), num_windows)
    )
    assert set(seen) == expected
    assert max(seen.values()) < 300 + 5 * 300**0.5
    assert min(seen.values()) > 300 - 5 * 300**0.5


@pytest.mark.parametrize(
    ("balance", "shares"), [("steps", [7, 2, 27]), ("histories", [1, 1, 1]), ("tasks", [7 / 9, 2 / 9, 1])]
)
def test_balance_says_what_is_drawn_evenly(balance, shares):
    histories = histories_of([[[10]], [[5]], [[30]]], tasks=[0, 0, 1])
    windows = WindowSampler(histories, length=4, balance=balance).sample(np.random.default_rng(2), 20_000)
    seen = np.bincount(windows.history - 100) / len(windows)
    np.testing.assert_allclose(seen, np.array(shares) / sum(shares), atol=0.015)


def test_strides_of_a_range_are_equally_likely():
    histories = histories_of([[[1] * 200]])
    windows = WindowSampler(histories, length=2, episode_stride=(3, 6)).sample(np.random.default_rng(3), 20_000)
    strides = [address[1].start - address[0].start for address in windows]
    seen = np.bincount(strides)[3:] / len(windows)
    np.testing.assert_allclose(seen, np.full(4, 0.25), atol=0.015)


def test_from_start_is_a_share_of_the_windows():
    histories = histories_of([[[2] * 5000]])
    windows = WindowSampler(histories, length=10, from_start=0.3).sample(np.random.default_rng(4), 20_000)
    assert abs((windows.start == 0).mean() - 0.3) < 0.015


def test_a_plain_window_is_one_run():
    sampler = WindowSampler(histories_of([[[3] * 10]]), length=12)
    assert all(len(address) == 1 for address in sampler.sample(np.random.default_rng(0), 50))


def test_a_part_of_a_history_is_a_share_of_its_episodes():
    histories = histories_of([[[2] * 10, [3]]])
    last = histories.part(0.7, 1)
    assert episodes_of(last, 0) == [(14, 16), (16, 18), (18, 20)]
    assert episodes_of(last, 1) == [(0, 3)]
    assert WindowSampler(last, length=6).sample(np.random.default_rng(0), 1)[0] == (Run(100, 14, 20),)


@given(learners=learners, data=st.data())
def test_a_batch_of_addresses_reads_as_the_addresses_it_was_made_of(learners, data):
    run = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(10, 20)).map(lambda each: Run(*each))
    addresses = data.draw(st.lists(st.lists(run, max_size=3).map(tuple), max_size=5))
    batch = AddressBatch.of(addresses)
    assert list(batch) == addresses
    assert batch.num_steps.tolist() == [sum(run.stop - run.start for run in address) for address in addresses]


@given(indices=st.lists(st.integers(0, 2**40), max_size=20), epoch=st.integers(0, 5), num_draws=st.integers(1, 9))
def test_the_draws_of_a_window_belong_to_it(indices, epoch, num_draws):
    together = window_draws(np.array(indices, dtype=np.int64), seed=7, epoch=epoch, num_draws=num_draws)
    apart = [window_draws(np.array([i]), seed=7, epoch=epoch, num_draws=num_draws)[0] for i in indices]
    np.testing.assert_array_equal(together, np.array(apart).reshape(-1, num_draws))
    in_a_row = window_draws(np.arange(max(indices, default=0) % 50, 60), seed=7, epoch=epoch, num_draws=num_draws)
    np.testing.assert_array_equal(
        in_a_row[-1], window_draws(np.array([59]), seed=7, epoch=epoch, num_draws=num_draws)[0]
    )


def test_draws_are_pinned_and_differ_between_seeds_epochs_and_windows():
    draws = [
        window_draws(np.array([index]), seed=seed, epoch=epoch, num_draws=3).ravel().tolist()
        for seed, epoch, index in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    assert draws[0] == PINNED_DRAWS
    assert len({value for each in draws for value in each}) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"length": 41},
            "windows: a context of 41 steps is longer than every history, the longest has 40. "
            "Use a shorter context, or record more steps.",
        ),
        (
            {"episode_stride": 9},
            "windows: an episode stride of 9 is longer than every history, the longest has 8 episodes. "
            "Use a smaller stride.",
        ),
        (
            {"episode_stride": 0},
            "windows: episode_stride is no whole number from 1 up and no range of them, got 0. "
            "Use 1 to keep every episode, (4, 8) to keep every 4th to 8th.",
        ),
        (
            {"episode_stride": (5, 2)},
            "windows: episode_stride is no whole number from 1 up and no range of them, got (5, 2). "
            "Use 1 to keep every episode, (4, 8) to keep every 4th to 8th.",
        ),
        ({"from_start": 1.5}, "windows: from_start is not a share from 0 to 1, got 1.5. Use such as 0.25."),
        ({"length": 0}, "windows: length is not a whole number from 1 up, got 0. Use such as 200."),
        (
            {"balance": "episodes"},
            "windows: no such balance, expected one of steps, histories, tasks, got 'episodes'. Choose one.",
        ),
    ],
)
def test_bad_arguments_get_one_line(arguments, message):
    with pytest.raises(InvalidValue) as error:
        WindowSampler(histories_of([[[5] * 8]]), **{"length": 10, **arguments})
    assert str(error.value) == message
