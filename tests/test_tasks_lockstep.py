"""The batched twins against the Gymnasium environments, step by step, with random actions."""

from typing import Any

import numpy as np
import pytest

from historystore.tasks import BatchedEnv, Family, Task, families, family

NEAR: dict[str, tuple[Task, Task]] = {
    "bandit": ({"means": [0.2] * 9 + [0.8]}, {"means": [0.2] * 9 + [0.7]}),
    "dark-key-to-door": ({"key": [4, 4], "door": [5, 4]}, {"key": [4, 4], "door": [5, 5]}),
    "darkroom": ({"goal": [4, 4]}, {"goal": [3, 4]}),
    "darkroom-hard": ({"goal": [8, 8]}, {"goal": [7, 8]}),
    "darkroom-permuted": ({"permutation": [0, 1, 2, 3, 4]}, {"permutation": [0, 1, 3, 2, 4]}),
}
"""A task of a family, and one that only a comparison of all that comes back can tell from it."""
VARIANTS = [
    ("bandit", {"arms": 3, "max_episode_steps": 7}),
    ("dark-key-to-door", {"ends_at_door": True, "size": 4}),
    ("dark-key-to-door", {"source": "stack-3", "size": 5, "max_episode_steps": 12}),
    ("darkroom", {"size": 13}),
    ("darkroom-permuted", {"size": 3, "max_episode_steps": 9}),
]


def lockstep_differences(fam: Family, batched: BatchedEnv, tasks: list[Task], *, num_steps: int, seed: int) -> int:
    """Step both for `num_steps`, resetting what is done and some that are not, and count what ever differed."""
    envs = [fam.make(task) for task in tasks]
    rng, num_envs, num_actions = np.random.default_rng(seed), len(envs), fam.action_space.n
    seeds = list(range(num_envs))
    first = batched.reset(seeds=seeds)
    differs = np.array([not np.array_equal(env.reset(seed=s)[0], first[s]) for s, env in enumerate(envs)])
    habits = rng.integers(num_actions, size=num_envs)
    for _ in range(num_steps):
        # half of the actions are an old habit, so that walls, corners and far goals are met
        habits = np.where(rng.random(num_envs) < 0.1, rng.integers(num_actions, size=num_envs), habits)
        actions = np.where(rng.random(num_envs) < 0.5, habits, rng.integers(num_actions, size=num_envs))
        obs, reward, terminated, truncated = batched.step(actions)
        for index, env in enumerate(envs):
            one = env.step(int(actions[index]))
            differs[index] |= not np.array_equal(one[0], obs[index])
            differs[index] |= one[1:4] != (reward[index], terminated[index], truncated[index])
        done = terminated | truncated | (rng.random(num_envs) < 0.01)
        if done.any():
            obs = batched.reset(done)
            for index in np.flatnonzero(done):
                differs[index] |= not np.array_equal(envs[index].reset()[0], obs[index])
    return int(differs.sum())


@pytest.mark.parametrize(("name", "args"), [*((name, {}) for name in families()), *VARIANTS])
def test_the_twin_and_the_environment_never_differ(name: str, args: dict[str, Any]) -> None:
    fam = family(name, args)
    tasks = [fam.task_of_seed(seed) for seed in range(40)]
    assert lockstep_differences(fam, fam.make_batched(tasks), tasks, num_steps=400, seed=1) == 0


@pytest.mark.parametrize("name", NEAR)
def test_the_lockstep_comparison_finds_a_twin_of_another_task(name: str) -> None:
    fam, (task, other) = family(name), NEAR[name]
    assert lockstep_differences(fam, fam.make_batched([other] * 3), [task] * 3, num_steps=2000, seed=1) == 3


@pytest.mark.parametrize(("name", "args"), [*((name, {}) for name in families()), *VARIANTS])
def test_a_restored_twin_goes_on_exactly_as_the_one_that_was_left(name: str, args: dict[str, Any]) -> None:
    fam, rng = family(name, args), np.random.default_rng(0)
    tasks = [fam.task_of_seed(seed) for seed in range(5)]
    lived, other = fam.make_batched(tasks), fam.make_batched(tasks)
    lived.reset(seeds=[3, 1, 4, 1, 5])
    trace(lived, rng.integers(fam.action_space.n, size=(37, 5)))
    kept = lived.state()
    assert all(isinstance(array, np.ndarray) and array.dtype.kind in "biuf" for array in kept.values())
    before = {key: array.copy() for key, array in kept.items()}
    actions = rng.integers(fam.action_space.n, size=(130, 5))
    expected = trace(lived, actions)
    assert all(np.array_equal(kept[key], before[key]) for key in before), "a state is the caller's"
    other.restore(kept)
    assert trace(other, actions) == expected


def trace(twin: BatchedEnv, actions: np.ndarray) -> list[Any]:
    """Step along, resetting what is done, and return all that came back, the source's view included."""
    came_back: list[Any] = []
    for row in actions:
        step = twin.step(row)
        obs = twin.reset(step[2] | step[3])
        came_back.append([array.tobytes() for array in (*step, obs, twin.source_observation())])
    return came_back


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
