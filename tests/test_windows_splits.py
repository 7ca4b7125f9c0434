import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from historystore.documents import canonical_json
from historystore.errors import InvalidValue
from historystore.splits import PARTS, split_tasks

GOALS = [{"goal": [x, y]} for x in range(9) for y in range(9)]
PINNED_VALIDATION = [[0, 5], [0, 6], [1, 1], [2, 5], [5, 6], [6, 2], [6, 4], [7, 6]]
PINNED_TEST = [
    [1, 4],
    [2, 3],
    [2, 8],
    [3, 4],
    [4, 0],
    [4, 1],
    [4, 2],
    [5, 8],
    [6, 5],
    [6, 8],
    [7, 1],
    [7, 5],
    [7, 7],
    [8, 2],
    [8, 6],
    [8, 8],
]
ratios = st.tuples(*[st.sampled_from([0.0, 0.1, 0.7, 1, 3.5])] * 3).filter(sum)


def keys(tasks):
    return {canonical_json(task) for task in tasks}


@given(tasks=st.lists(st.sampled_from(GOALS), min_size=3, max_size=60), seed=st.integers(0, 2**70), ratios=ratios)
def test_every_task_is_in_exactly_one_part(tasks, seed, ratios):
    if len(keys(tasks)) < 3:
        return
    split = split_tasks(tasks, seed=seed, ratios=ratios)
    parts = [keys(split.part(name)) for name in PARTS]
    assert set.union(*parts) == keys(tasks)
    assert sum(map(len, parts)) == len(keys(tasks))
    assert all(bool(part) == (share > 0) for part, share in zip(parts, ratios, strict=True))


@given(order=st.randoms(), seed=st.integers(0, 100))
def test_order_and_repetition_do_not_matter(order: random.Random, seed):
    shuffled = GOALS + GOALS[:10]
    order.shuffle(shuffled)
    assert split_tasks(shuffled, seed=seed) == split_tasks(GOALS, seed=seed)


def test_the_split_of_dark_room_by_seed_0_is_pinned():
    split = split_tasks(GOALS, seed=0)
    assert [len(split.part(name)) for name in PARTS] == [57, 8, 16]
    assert [task["goal"] for task in split.validation] == PINNED_VALIDATION
    assert [task["goal"] for task in split.test] == PINNED_TEST


def test_seeds_give_different_splits():
    assert len({canonical_json(split_tasks(GOALS, seed=seed).test) for seed in range(20)}) == 20


def test_whole_numbers_that_add_up_come_out_exactly():
    split = split_tasks(GOALS, seed=3, ratios=(55, 10, 16))
    assert [len(split.part(name)) for name in PARTS] == [55, 10, 16]


def test_one_task_more_moves_few_of_the_others():
    before, after = split_tasks(GOALS[:-1], seed=1), split_tasks(GOALS, seed=1)
    moved = sum(len(keys(before.part(name)) - keys(after.part(name))) for name in PARTS)
    assert moved <= 2


def test_a_split_survives_json():
    split = split_tasks(GOALS, seed=5)
    assert type(split).model_validate_json(split.model_dump_json()) == split


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"tasks": GOALS[:2]},
            "split: too few tasks, expected at least 3 for the ratios (0.7, 0.1, 0.2), got 2. "
            "Record more tasks, or set a share to 0.",
        ),
        (
            {"tasks": GOALS, "ratios": (1.0, -1.0, 1.0)},
            "split: ratios are not three shares for train, validation, test, got (1.0, -1.0, 1.0). "
            "Use such as (0.7, 0.1, 0.2).",
        ),
        ({"tasks": GOALS, "seed": -1}, "split: seed is not a whole number from 0 up, got -1. Use one."),
    ],
)
def test_bad_arguments_get_one_line(arguments, message):
    with pytest.raises(InvalidValue) as error:
        split_tasks(arguments.pop("tasks"), **arguments)
    assert str(error.value) == message


def test_an_unknown_part_gets_one_line():
    with pytest.raises(InvalidValue, match="no such part, expected one of train, validation, test, got 'dev'"):
        split_tasks(GOALS).part("dev")
