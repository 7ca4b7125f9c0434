from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from historystore.errors import InvalidValue
from historystore.tasks import family

ORDER = [4, 2, 0, 1, 3]
"""Stay, up, right, left, down."""


def test_an_action_makes_the_move_that_the_task_gives_it() -> None:
    env = gym.make("historystore/DarkRoomPermuted-v0", permutation=ORDER)
    assert env.reset()[0].tolist() == [0, 0]
    assert [env.step(action)[0].tolist() for action in (0, 1, 2, 3, 4)] == [[0, 0], [0, 1], [1, 1], [0, 1], [0, 0]]


def test_the_corner_opposite_the_start_pays_on_every_step_that_ends_there() -> None:
    env = gym.make("historystore/DarkRoomPermuted-v0", permutation=ORDER, size=2)
    env.reset()
    assert [env.step(action)[1] for action in (1, 2, 0, 3, 2)] == [0.0, 1.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("num_steps", [2, 4, 5])
def test_best_and_random_returns_are_what_trying_everything_finds(num_steps: int) -> None:
    fam = family("darkroom-permuted", {"size": 2 if num_steps == 5 else 3, "max_episode_steps": num_steps})
    env = fam.make({"permutation": ORDER}).unwrapped
    returns = []
    for actions in product(range(5), repeat=num_steps):
        env.reset()
        returns.append(sum(env.step(action)[1] for action in actions))
    assert fam.best_return({"permutation": ORDER}) == max(returns)
    assert fam.random_return({"permutation": ORDER}) == pytest.approx(np.mean(returns), abs=1e-12)


def test_fifty_steps_leave_thirty_five_at_the_goal() -> None:
    fam = family("darkroom-permuted")
    assert {fam.best_return(task) for task in fam.tasks()} == {35.0}
    assert family("darkroom-permuted", {"max_episode_steps": 15}).best_return(fam.tasks()[0]) == 0.0


def test_an_episode_is_drawn_with_the_moves_and_the_actions_that_made_them() -> None:
    fam = family("darkroom-permuted", {"size": 3})
    drawing = fam.draw_episode(
        {"permutation": ORDER},
        np.array([[0, 0], [0, 1], [1, 1], [2, 1]]),
        np.array([1, 2, 2, 1]),
        np.array([0, 0, 0, 1], dtype=np.float32),
    )
    assert drawing == (
        "  2   ·   ·  [4]\n"
        "  1   1   2   3\n"
        "  0   0   ·   ·\n"
        "      0   1   2\n"
        "\n"
        "moves    ↑→→↑\n"
        "rewards     +\n"
        "actions  1221"
    )


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 1, 2, 3, 3], [0, 1, 2, 3, 5], [0, 1, 2, 3, 4.0], "01234", None])
def test_an_order_that_is_none_is_refused(order: object) -> None:
    fam = family("darkroom-permuted")
    message = f"permutation: expected the numbers 0 to 4 in some order, got {order!r}. Give such a list."
    for attempt in (fam.make, lambda task: fam.make_batched([task])):
        with pytest.raises(InvalidValue) as caught:
            attempt({"permutation": order})
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"size": 1}, "--env-arg size: expected 2 to 101 cells a side, got 1. Change the value."),
        ({"max_episode_steps": 0}, "--env-arg max_episode_steps: expected 1 to 1,000,000, got 0. Change the value."),
    ],
)
def test_an_argument_out_of_its_range_is_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        family("darkroom-permuted", args)
    assert str(caught.value) == message


def test_a_task_of_another_family_is_refused() -> None:
    with pytest.raises(InvalidValue) as caught:
        family("darkroom-permuted").make({"goal": [1, 2]})
    assert str(caught.value) == "task: expected one key, 'permutation', got ['goal']. Give {'permutation': [...]}."
