import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from historystore.errors import InvalidValue
from historystore.tasks import Task, families, family
from historystore.tasks.darkroom import DarkRoom, DarkRoomFamily

ROOMS = ["darkroom", "darkroom-hard"]
MEAN_RETURNS = {"darkroom": (16.543, 0.247), "darkroom-hard": (1.0, 0.037)}


def best_by_search(env: gym.Env, *, num_steps: int) -> float:
    """The best return by trying every action everywhere: backward induction over (cell, was rewarded)."""
    size = env.unwrapped.size
    value = np.zeros((size, size, 2))
    for _ in range(num_steps):
        after = value.copy()
        for x, y, paid in np.ndindex(size, size, 2):
            outcomes = []
            for action in range(5):
                env.unwrapped._position = np.array([x, y])
                env.unwrapped._was_rewarded = bool(paid)
                (to_x, to_y), reward, *_ = env.unwrapped.step(action)
                outcomes.append(reward + value[to_x, to_y, int(env.unwrapped._was_rewarded)])
            after[x, y, paid] = max(outcomes)
        value = after
    return float(value[size // 2, size // 2, 0])


def played_return(name: str, tasks: list[Task], *, seed: int) -> np.ndarray:
    twin = family(name).make_batched([task for task in tasks for _ in range(500)])
    rng = np.random.default_rng(seed)
    total = np.zeros(twin.num_envs)
    for _ in range(40):
        twin.reset()
        for _ in range(20):
            total += twin.step(rng.integers(5, size=twin.num_envs))[1]
    return total.reshape(len(tasks), 500).mean(axis=1) / 40


@pytest.mark.parametrize("name", ROOMS)
def test_the_mean_best_and_random_returns_are_the_published_ones(name: str) -> None:
    fam = family(name)
    best, random = MEAN_RETURNS[name]
    assert np.mean([fam.best_return(task) for task in fam.tasks()]) == pytest.approx(best, abs=5e-4)
    assert np.mean([fam.random_return(task) for task in fam.tasks()]) == pytest.approx(random, abs=5e-4)


@pytest.mark.parametrize("is_rewarded_once", [False, True])
def test_the_best_return_is_what_an_exhaustive_search_finds(is_rewarded_once: bool) -> None:
    small = DarkRoomFamily(
        name="small", version=1, env_id="", size=5, is_rewarded_once=is_rewarded_once, max_episode_steps=3
    )
    for task in small.tasks():
        env = DarkRoom(task["goal"], size=5, is_rewarded_once=is_rewarded_once)
        assert small.best_return(task) == best_by_search(env, num_steps=3), task


@pytest.mark.parametrize("name", ROOMS)
def test_the_random_return_is_what_random_play_earns(name: str) -> None:
    fam = family(name)
    centre = fam.size // 2
    tasks: list[Task] = [{"goal": [centre, centre]}, {"goal": [centre + 1, centre]}, {"goal": [centre - 2, centre + 1]}]
    played = played_return(name, tasks, seed=0)
    assert played == pytest.approx([fam.random_return(task) for task in tasks], abs=0.03)


def test_the_order_of_tasks_over_seeds_never_changes() -> None:
    first = {name: [family(name).task_of_seed(seed)["goal"] for seed in range(5)] for name in ROOMS}
    assert first == {
        "darkroom": [[1, 5], [0, 5], [3, 7], [5, 0], [2, 0]],
        "darkroom-hard": [[11, 4], [7, 5], [15, 1], [8, 7], [14, 0]],
    }


def test_the_goal_at_the_centre_pays_from_the_first_step_on() -> None:
    env = gym.make("historystore/DarkRoom-v0", goal=(4, 4))
    env.reset()
    assert [env.step(4)[1] for _ in range(20)] == [1.0] * 20


def test_a_hard_room_pays_once_an_episode() -> None:
    env = gym.make("historystore/DarkRoomHard-v0", goal=(9, 8))
    for _ in range(2):
        env.reset()
        rewards = [env.step(action)[1] for action in (0, 4, 1, 0)]
        assert rewards == [1.0, 0.0, 0.0, 0.0]


def test_a_wall_stops_a_move_and_the_twentieth_step_ends_the_episode() -> None:
    env = gym.make("historystore/DarkRoom-v0", goal=(0, 0))
    env.reset()
    steps = [env.step(1) for _ in range(20)]
    assert [tuple(obs) for obs, *_ in steps[:6]] == [(3, 4), (2, 4), (1, 4), (0, 4), (0, 4), (0, 4)]
    assert [(terminated, truncated) for _, _, terminated, truncated, _ in steps[-2:]] == [(False, False), (False, True)]


def test_the_ansi_rendering_shows_walker_and_goal() -> None:
    env = gym.make("historystore/DarkRoom-v0", goal=(0, 0), render_mode="ansi")
    env.reset()
    lines = env.render().splitlines()
    assert lines[4] == "· · · · @ · · · ·"
    assert lines[8] == "G · · · · · · · ·"


def test_an_episode_is_drawn_on_the_grid() -> None:
    fam = family("darkroom")
    env = fam.make({"goal": [5, 6]})
    obs, _ = env.reset()
    observations, rewards = [obs], []
    actions = [0, 2, 3, 2, 2, 4]
    for action in actions:
        obs, reward, *_ = env.step(action)
        observations.append(obs)
        rewards.append(reward)
    drawing = fam.draw_episode(
        {"goal": [5, 6]}, np.array(observations[:-1]), np.array(actions), np.array(rewards, dtype=np.float32)
    )
    assert drawing == (
        "  8   ·   ·   ·   ·   ·   ·   ·   ·   ·\n"
        "  7   ·   ·   ·   ·   ·   ·   ·   ·   ·\n"
        "  6   ·   ·   ·   ·   ·  [5]  ·   ·   ·\n"
        "  5   ·   ·   ·   ·   ·   2   ·   ·   ·\n"
        "  4   ·   ·   ·   ·   0   1   ·   ·   ·\n"
        "  3   ·   ·   ·   ·   ·   ·   ·   ·   ·\n"
        "  2   ·   ·   ·   ·   ·   ·   ·   ·   ·\n"
        "  1   ·   ·   ·   ·   ·   ·   ·   ·   ·\n"
        "  0   ·   ·   ·   ·   ·   ·   ·   ·   ·\n"
        "      0   1   2   3   4   5   6   7   8\n"
        "\n"
        "actions  →↑↓↑↑•\n"
        "rewards      ++"
    )


@pytest.mark.parametrize("goal", [[9, 0], [-1, 0], [1.5, 2], [1], "34", [True, 1], None])
def test_a_goal_outside_the_grid_is_refused(goal: object) -> None:
    message = f"goal: expected two whole numbers (x, y) from 0 to 8, got {goal!r}. Pick a cell."
    for attempt in (family("darkroom").make, lambda task: family("darkroom").make_batched([task])):
        with pytest.raises(InvalidValue) as caught:
            attempt({"goal": goal})
        assert str(caught.value) == message


def test_a_task_with_another_key_is_refused() -> None:
    with pytest.raises(InvalidValue) as caught:
        family("darkroom").best_return({"goal": [1, 2], "door": [3, 4]})
    assert str(caught.value) == "task: expected one key, 'goal', got ['door', 'goal']. Give {'goal': [x, y]}."


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidValue) as caught:
        family("dark-room")
    assert str(caught.value) == (
        f"env: nothing is called 'dark-room', expected one of {', '.join(families())}, a Gymnasium id such as "
        "CartPole-v1, or a class of your own such as my_package:MyFamily. Did you mean darkroom or darkroom-hard?"
    )


@pytest.mark.parametrize("name", ROOMS)
def test_what_a_family_says_of_itself_is_what_its_environment_is(name: str) -> None:
    fam = family(name)
    env = fam.make({"goal": [0, 0]})
    assert (fam.name, env.spec.id, env.spec.max_episode_steps) == (name, fam.env_id, fam.max_episode_steps)
    assert (env.observation_space, env.action_space) == (fam.observation_space, fam.action_space)
    assert (env.unwrapped.size, env.unwrapped.is_rewarded_once) == (fam.size, fam.is_rewarded_once)


def test_gymnasium_finds_the_environments_by_module_and_the_families_load_no_learner() -> None:
    script = (
        "import sys, gymnasium; gymnasium.make('historystore.tasks:historystore/DarkRoom-v0', goal=(3, 4)).reset();"
        "sys.exit('torch' in sys.modules or 'stable_baselines3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
