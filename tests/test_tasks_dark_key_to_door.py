from itertools import product
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from historystore.errors import InvalidValue
from historystore.tasks import family
from historystore.tasks.dark_key_to_door import KeyToDoorFamily

RIGHT, LEFT, UP, DOWN, STAY = range(5)


def played(env: gym.Env, start: tuple[int, int], actions: Any) -> list[tuple[float, bool, bool]]:
    """What came back of each action, from a start of the test's choosing."""
    env.reset()
    env.unwrapped._position = np.array(start)
    return [env.step(action)[1:4] for action in actions]


def exact_by_trying_everything(fam: KeyToDoorFamily, task: dict[str, Any]) -> tuple[float, float]:
    """The best and the random return: every sequence of actions from every start."""
    env = fam.make(task).unwrapped
    sequences = list(product(range(5), repeat=fam.max_episode_steps))
    starts = list(product(range(fam.size), repeat=2))
    best, mean = 0.0, 0.0
    for start in starts:
        returns = []
        for actions in sequences:
            total = 0.0
            env._start_episode(np.array(start))
            for action in actions:
                _, reward, terminated, *_ = env.step(action)
                total += reward
                if terminated:
                    break
            returns.append(total)
        best += max(returns) / len(starts)
        mean += float(np.mean(returns)) / len(starts)
    return best, mean


@pytest.mark.parametrize("ends_at_door", [False, True])
@pytest.mark.parametrize(("key", "door"), [([0, 0], [1, 0]), ([1, 1], [1, 1]), ([0, 2], [2, 1])])
def test_best_and_random_returns_are_what_trying_everything_finds(
    key: list[int], door: list[int], ends_at_door: bool
) -> None:
    fam = KeyToDoorFamily(size=3, max_episode_steps=4, ends_at_door=ends_at_door)
    task = {"key": key, "door": door}
    best, mean = exact_by_trying_everything(fam, task)
    assert fam.best_return(task) == pytest.approx(best, abs=1e-12)
    assert fam.random_return(task) == pytest.approx(mean, abs=1e-12)


def test_fifty_steps_suffice_for_both_rewards_and_random_actions_earn_a_quarter_of_one() -> None:
    fam = family("dark-key-to-door")
    tasks = fam.tasks()
    assert len({str(task) for task in tasks}) == len(tasks) == fam.num_tasks == 6561
    assert {fam.best_return(task) for task in tasks[::97]} == {2.0}
    random = np.mean([fam.random_return(task) for task in tasks[::97]])
    assert random == pytest.approx(0.25, abs=0.02)  # the mean over all of them is 0.2513


def test_a_larger_room_is_too_large_for_fifty_steps_from_some_starts() -> None:
    fam = family("dark-key-to-door", {"size": 17})
    assert 1.0 < fam.best_return({"key": [0, 0], "door": [16, 16]}) < 2.0


def test_the_key_pays_once_then_the_door_pays_once_and_the_door_before_the_key_pays_nothing() -> None:
    env = gym.make("historystore/DarkKeyToDoor-v0", key=(2, 0), door=(1, 0))
    steps = played(env, (0, 0), [RIGHT, RIGHT, STAY, LEFT, STAY, RIGHT, LEFT])
    assert [reward for reward, *_ in steps] == [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    assert not any(terminated for _, terminated, _ in steps)


def test_a_key_at_the_door_needs_two_steps_for_two_rewards() -> None:
    env = gym.make("historystore/DarkKeyToDoor-v0", key=(4, 4), door=(4, 4))
    assert [reward for reward, *_ in played(env, (4, 4), [STAY, STAY, STAY])] == [1.0, 1.0, 0.0]


def test_an_episode_ends_at_the_door_where_that_is_asked_for_and_else_after_fifty_steps() -> None:
    ends = gym.make("historystore/DarkKeyToDoor-v0", key=(1, 0), door=(2, 0), ends_at_door=True)
    assert [terminated for _, terminated, _ in played(ends, (0, 0), [RIGHT, RIGHT])] == [False, True]
    stays = gym.make("historystore/DarkKeyToDoor-v0", key=(1, 0), door=(2, 0))
    steps = played(stays, (0, 0), [RIGHT] * 50)
    assert [index for index, (_, terminated, truncated) in enumerate(steps) if terminated or truncated] == [49]


def test_every_cell_is_a_start_as_often_as_any_other() -> None:
    twin = family("dark-key-to-door", {"size": 3}).make_batched([{"key": [0, 0], "door": [0, 0]}])
    twin.reset(seeds=[0])
    starts = [tuple(twin.reset()[0].tolist()) for _ in range(4500)]
    counts = np.array([starts.count(cell) for cell in product(range(3), repeat=2)])
    assert counts == pytest.approx(500, abs=5 * np.sqrt(500))


def test_the_source_sees_whether_it_holds_the_key() -> None:
    twin = family("dark-key-to-door").make_batched([{"key": [4, 4], "door": [0, 0]}] * 2)
    assert twin.source_observation_space == gym.spaces.MultiDiscrete([9, 9, 2])
    obs = twin.reset(seeds=[0, 1])
    assert twin.source_observation().tolist() == [[*cell, 0] for cell in obs.tolist()]
    for _ in range(16):
        obs, *_ = twin.step(twin.expert_actions() if not twin.source_observation()[0, 2] else np.array([STAY, STAY]))
    assert twin.source_observation()[0].tolist() == [4, 4, 1]
    twin.reset(np.array([True, False]))
    assert twin.source_observation()[0, 2] == 0


def test_the_source_sees_the_last_positions_of_this_episode_alone() -> None:
    twin = family("dark-key-to-door", {"source": "stack-3"}).make_batched([{"key": [0, 0], "door": [0, 0]}])
    assert twin.source_observation_space == gym.spaces.MultiDiscrete([9] * 6)
    start = twin.reset(seeds=[0])[0].tolist()
    assert twin.source_observation().tolist() == [start * 3]
    positions = [start] + [twin.step(np.array([action]))[0][0].tolist() for action in (RIGHT, UP, LEFT)]
    assert twin.source_observation().tolist() == [[*positions[1], *positions[2], *positions[3]]]
    again = twin.reset()[0].tolist()
    assert twin.source_observation().tolist() == [again * 3]


def test_a_plain_source_sees_the_observation() -> None:
    twin = family("dark-key-to-door", {"source": "plain"}).make_batched([{"key": [0, 0], "door": [0, 0]}])
    assert twin.source_observation_space is None
    assert np.array_equal(twin.reset(seeds=[0]), twin.source_observation())


def test_arrays_handed_out_never_change_afterwards() -> None:
    twin = family("dark-key-to-door", {"source": "stack-2"}).make_batched([{"key": [0, 0], "door": [0, 0]}] * 3)
    handed = [twin.reset(seeds=[0, 1, 2]), twin.source_observation()]
    before = [array.tolist() for array in handed]
    for _ in range(3):
        obs, *_ = twin.step(np.array([RIGHT, UP, LEFT]))
        handed, before = [*handed, obs], [*before, obs.tolist()]
    twin.reset()
    assert [array.tolist() for array in handed] == before
    handed[-1][:] = -1
    assert twin.source_observation().min() >= 0


def test_an_episode_is_drawn_with_key_and_door() -> None:
    fam = family("dark-key-to-door", {"size": 4})
    path = np.array([[0, 0], [1, 0], [2, 0]])
    drawing = fam.draw_episode(
        {"key": [1, 0], "door": [2, 1]}, path, np.array([RIGHT, RIGHT, UP]), np.array([1, 0, 1], dtype=np.float32)
    )
    assert drawing == (
        "  3   ·   ·   ·   ·\n"
        "  2   ·   ·   ·   ·\n"
        "  1   ·   ·  <3>  ·\n"
        "  0   0  [1]  2   ·\n"
        "      0   1   2   3\n"
        "\n"
        "actions  →→↑\n"
        "rewards  + +"
    )


def test_the_ansi_rendering_shows_the_key_until_it_is_held() -> None:
    env = gym.make("historystore/DarkKeyToDoor-v0", key=(1, 0), door=(2, 0), size=3, render_mode="ansi")
    played(env, (0, 0), [STAY])
    assert env.render() == "· · ·\n· · ·\n@ K D"
    played(env, (0, 0), [RIGHT, LEFT])
    assert env.render() == "· · ·\n· · ·\n@ · D"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            {"key": [9, 0], "door": [0, 0]},
            "key: expected two whole numbers (x, y) from 0 to 8, got [9, 0]. Pick a cell.",
        ),
        ({"key": [0, 0], "door": 3}, "door: expected two whole numbers (x, y) from 0 to 8, got 3. Pick a cell."),
        (
            {"key": [0, 0]},
            "task: expected the keys 'key' and 'door', got ['key']. Give {'key': [x, y], 'door': [x, y]}.",
        ),
    ],
)
def test_a_task_outside_the_grid_is_refused(task: dict[str, Any], message: str) -> None:
    fam = family("dark-key-to-door")
    for attempt in (fam.make, fam.best_return, lambda task: fam.make_batched([task])):
        with pytest.raises(InvalidValue) as caught:
            attempt(task)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"size": 26}, "--env-arg size: expected 2 to 25 cells a side, got 26. Change the value."),
        ({"max_episode_steps": 0}, "--env-arg max_episode_steps: expected 1 to 1,000,000, got 0. Change the value."),
        *(
            (
                {"source": source},
                f"--env-arg source: expected plain, key, or stack-2 to stack-50, got {source!r}. Change the value.",
            )
            for source in ("door", "stack-1", "stack-51", "stack-")
        ),
    ],
)
def test_an_argument_out_of_its_range_is_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        family("dark-key-to-door", args)
    assert str(caught.value) == message
