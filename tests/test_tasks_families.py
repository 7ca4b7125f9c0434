"""What holds of every family, whatever its tasks are."""

import warnings
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from historystore.documents import canonical_json
from historystore.errors import InvalidValue
from historystore.splits import split_tasks
from historystore.tasks import BatchedEnv, Family, Task, families, family

CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in families()),
    ("bandit", {"arms": 3, "max_episode_steps": 20, "distribution": "uniform"}),
    ("dark-key-to-door", {"size": 4, "max_episode_steps": 9}),
    ("dark-key-to-door", {"size": 5, "ends_at_door": True}),
    ("darkroom", {"size": 13}),
    ("darkroom-permuted", {"size": 4, "max_episode_steps": 20}),
]
COPIES = 40
"""Environments of one task that are played at once."""
FINITE = [(name, args) for name, args in CASES if 0 < family(name, args).num_tasks < 300]
FIRST = {
    "bandit": {"means": [0.0241, 0.9821, 0.4773, 0.9359, 0.2211, 0.7953, 0.3229, 0.7117, 0.1629, 0.5104]},
    "dark-key-to-door": {"key": [2, 6], "door": [4, 1]},
    "darkroom": {"goal": [1, 5]},
    "darkroom-hard": {"goal": [11, 4]},
    "darkroom-permuted": {"permutation": [0, 3, 4, 1, 2]},
}


def played(fam: Family, tasks: list[Task], *, is_expert: bool, num_rounds: int) -> np.ndarray:
    """The returns (tasks, episodes) of random actions, or of the family's own expert."""
    twin: Any = fam.make_batched([task for task in tasks for _ in range(COPIES)])
    rng, returns = np.random.default_rng(0), np.zeros((num_rounds, twin.num_envs))
    seeds: list[int] | None = list(range(twin.num_envs))
    for total in returns:
        twin.reset(seeds=seeds)
        seeds, is_over = None, np.zeros(twin.num_envs, dtype=bool)
        while not is_over.all():
            actions = twin.expert_actions() if is_expert else rng.integers(fam.action_space.n, size=twin.num_envs)
            _, reward, terminated, truncated = twin.step(actions)
            total += reward * ~is_over
            is_over |= terminated | truncated
    return returns.reshape(num_rounds, len(tasks), COPIES).swapaxes(0, 1).reshape(len(tasks), -1)


def assert_mean(returns: np.ndarray, expected: float) -> None:
    """The mean is within five standard errors, and within one rare return more."""
    tolerance = 5 * returns.std() / np.sqrt(len(returns)) + max(returns.max(), 1.0) / len(returns)
    assert returns.mean() == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(("name", "args"), CASES)
def test_the_environment_passes_gymnasiums_checker(name: str, args: dict[str, Any]) -> None:
    fam = family(name, args)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(fam.make(fam.task_of_seed(0)).unwrapped)


@pytest.mark.parametrize(("name", "args"), CASES)
def test_what_a_family_says_of_itself_is_what_its_environments_are(name: str, args: dict[str, Any]) -> None:
    fam = family(name, args)
    task = fam.task_of_seed(1)
    env, twin = fam.make(task), fam.make_batched([task, task])
    assert isinstance(fam, Family)
    assert isinstance(twin, BatchedEnv)
    assert (fam.name, fam.args) == (name, args)
    assert (env.spec.id, env.spec.max_episode_steps) == (fam.env_id, fam.max_episode_steps)
    assert (env.observation_space, env.action_space) == (fam.observation_space, fam.action_space)
    assert (twin.observation_space, twin.action_space) == (fam.observation_space, fam.action_space)
    assert (twin.num_envs, twin.tasks) == (2, (task, task))
    assert all(fam.observation_space.contains(obs) for obs in twin.reset())


@pytest.mark.parametrize(("name", "args"), FINITE)
def test_as_many_seeds_as_tasks_cover_every_task_once(name: str, args: dict[str, Any]) -> None:
    fam = family(name, args)
    tasks = sorted(map(canonical_json, fam.tasks()))
    assert len(set(tasks)) == len(tasks) == fam.num_tasks
    for first in (0, -5):
        drawn = [fam.task_of_seed(seed) for seed in range(first, first + fam.num_tasks)]
        assert sorted(map(canonical_json, drawn)) == tasks


@pytest.mark.parametrize("name", FIRST)
def test_the_task_of_the_first_seed_never_changes(name: str) -> None:
    assert family(name).task_of_seed(0) == FIRST[name]


@pytest.mark.parametrize(("name", "args"), CASES)
def test_tasks_of_seeds_are_split_into_parts_that_share_none(name: str, args: dict[str, Any]) -> None:
    fam = family(name, args)
    split = split_tasks([fam.task_of_seed(seed) for seed in range(50)], seed=1)
    texts = [canonical_json(task) for part in (split.train, split.validation, split.test) for task in part]
    distinct = {canonical_json(fam.task_of_seed(seed)) for seed in range(50)}
    assert sorted(texts) == sorted(distinct)


@pytest.mark.parametrize(("name", "args"), CASES)
def test_the_random_return_is_what_random_play_earns(name: str, args: dict[str, Any]) -> None:
    fam = family(name, args)
    tasks = [fam.task_of_seed(seed) for seed in range(4)]
    if fam.random_return(tasks[0]) is None:
        pytest.skip("nobody knows it")
    for task, returns in zip(tasks, played(fam, tasks, is_expert=False, num_rounds=50), strict=True):
        assert_mean(returns, fam.random_return(task))


@pytest.mark.parametrize(("name", "args"), CASES)
def test_the_best_return_is_what_the_expert_earns(name: str, args: dict[str, Any]) -> None:
    fam = family(name, args)
    tasks = [fam.task_of_seed(seed) for seed in range(10)]
    if not hasattr(fam.make_batched(tasks), "expert_actions"):
        pytest.skip("it has no expert")
    for task, returns in zip(tasks, played(fam, tasks, is_expert=True, num_rounds=8), strict=True):
        assert_mean(returns, fam.best_return(task))


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidValue) as caught:
        family("dark-room")
    assert str(caught.value) == (
        f"env: nothing is called 'dark-room', expected one of {', '.join(families())}, a Gymnasium id such as "
        "CartPole-v1, or a class of your own such as my_package:MyFamily. Did you mean darkroom or darkroom-hard or "
        "darkroom-permuted?"
    )
