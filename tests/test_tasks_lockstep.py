"""The batched twins against the Gymnasium environments, step by step, with random actions."""

import numpy as np
import pytest

from historystore.tasks import BatchedEnv, Family, Task, families, family


def lockstep_differences(fam: Family, batched: BatchedEnv, tasks: list[Task], *, num_steps: int, seed: int) -> int:
    """Step both for `num_steps`, resetting whatever is done, and count the environments that ever differed."""
    envs = [fam.make(task) for task in tasks]
    rng = np.random.default_rng(seed)
    differs = (np.array([env.reset(seed=0)[0] for env in envs]) != batched.reset()).any(axis=1)
    directions = rng.integers(4, size=len(envs))
    for _ in range(num_steps):
        # half of the actions keep a direction, so that walls, corners and far goals are met
        directions = np.where(rng.random(len(envs)) < 0.1, rng.integers(4, size=len(envs)), directions)
        actions = np.where(rng.random(len(envs)) < 0.5, directions, rng.integers(5, size=len(envs)))
        obs, reward, terminated, truncated = batched.step(actions)
        for index, env in enumerate(envs):
            one = env.step(int(actions[index]))
            differs[index] |= not np.array_equal(one[0], obs[index])
            differs[index] |= one[1:4] != (reward[index], terminated[index], truncated[index])
        done = terminated | truncated
        if done.any():
            obs = batched.reset(done)
            for index in np.flatnonzero(done):
                differs[index] |= not np.array_equal(envs[index].reset()[0], obs[index])
    return int(differs.sum())


@pytest.mark.parametrize("name", families())
def test_the_twin_and_the_environment_never_differ(name: str) -> None:
    fam = family(name)
    tasks = fam.tasks() if fam.num_tasks < 100 else fam.tasks()[:: fam.num_tasks // 50]
    assert lockstep_differences(fam, fam.make_batched(tasks), tasks, num_steps=400, seed=1) == 0


@pytest.mark.parametrize("name", families())
def test_the_lockstep_comparison_finds_a_twin_of_another_goal(name: str) -> None:
    fam = family(name)
    near: list[Task] = [{"goal": [fam.max_episode_steps % 5 + 4, 4]}] * 3
    moved: list[Task] = [{"goal": [goal[0] - 1, goal[1]]} for goal in (task["goal"] for task in near)]
    assert lockstep_differences(fam, fam.make_batched(moved), near, num_steps=2000, seed=1) > 0


def test_a_reset_of_some_leaves_the_others_in_their_episode() -> None:
    twin = family("darkroom").make_batched([{"goal": [0, 0]}] * 3)
    twin.reset()
    for _ in range(3):
        twin.step(np.array([0, 1, 2]))
    obs = twin.reset(np.array([False, True, False]))
    assert obs.tolist() == [[7, 4], [4, 4], [4, 7]]
    for _ in range(17):
        *_, truncated = twin.step(np.array([4, 4, 4]))
    assert truncated.tolist() == [True, False, True]


def test_arrays_handed_out_never_change_afterwards() -> None:
    twin = family("darkroom").make_batched([{"goal": [5, 4]}] * 2)
    first = twin.reset()
    second, *_ = twin.step(np.array([0, 0]))
    twin.reset(np.array([True, False]))
    second_before = second.tolist()
    second[:] = 0
    third, *_ = twin.step(np.array([0, 0]))
    assert (first.tolist(), second_before, third.tolist()) == ([[4, 4]] * 2, [[5, 4]] * 2, [[5, 4], [6, 4]])
