from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from historystore.errors import InvalidValue
from historystore.tasks import family
from historystore.tasks.bandit import BanditFamily

MEANS = [0.0, 1.0, 0.25]
NUM = 600
"""Bandits that a distribution is judged by."""


def drawn_means(distribution: str, num: int) -> np.ndarray:
    fam = BanditFamily(distribution=distribution)
    return np.array([fam.task_of_seed(seed)["means"] for seed in range(num)])


@pytest.mark.parametrize(("distribution", "favoured"), [("odd", 1), ("even", 0)])
def test_in_95_of_100_bandits_the_arms_of_the_distribution_are_the_better_half(
    distribution: str, favoured: int
) -> None:
    means = drawn_means(distribution, NUM)
    is_usual = (means[:, favoured::2] >= 0.5).all(axis=1) & (means[:, 1 - favoured :: 2] <= 0.5).all(axis=1)
    is_reverse = (means[:, favoured::2] <= 0.5).all(axis=1) & (means[:, 1 - favoured :: 2] >= 0.5).all(axis=1)
    assert (is_usual | is_reverse).all()
    assert is_usual.mean() == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / NUM))
    quarters = np.histogram(means[is_usual][:, favoured::2], bins=[0.5, 0.625, 0.75, 0.875, 1.0001])[0]
    assert quarters / quarters.sum() == pytest.approx(0.25, abs=0.04)


def test_the_uniform_distribution_favours_no_arm() -> None:
    means = drawn_means("uniform", NUM)
    assert means.mean(axis=0) == pytest.approx(0.5, abs=0.06)
    assert np.quantile(means, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.03)


def test_every_seed_has_a_bandit_of_its_own_and_so_has_every_distribution() -> None:
    drawn = [tuple(row) for name in ("odd", "even", "uniform") for row in drawn_means(name, 100)]
    assert len(set(drawn)) == 300
    fam = family("bandit")
    assert fam.task_of_seed(5) == family("bandit", {"distribution": "odd"}).task_of_seed(5)
    assert (fam.num_tasks, fam.tasks()) == (0, [])


def test_an_arm_pays_as_often_as_its_mean_says_and_there_is_nothing_to_see() -> None:
    env = gym.make("historystore/AdversarialBandit-v0", means=MEANS, max_episode_steps=5000)
    assert env.reset(seed=0)[0] == 0
    paid = np.zeros((3, 3))
    for step in range(4500):
        obs, reward, terminated, truncated, _ = env.step(step % 3)
        paid[step % 3, int(reward)] += 1
        assert (int(obs), terminated, truncated) == (0, False, False)
    assert paid[0].tolist() == [1500, 0, 0]
    assert paid[1].tolist() == [0, 1500, 0]
    assert paid[2, 1] / 1500 == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 1500))


def test_the_best_and_random_returns_are_those_of_the_best_and_of_all_arms() -> None:
    fam = family("bandit", {"arms": 3, "max_episode_steps": 40})
    assert (fam.best_return({"means": MEANS}), fam.random_return({"means": MEANS})) == (40.0, pytest.approx(50 / 3))


def test_the_luck_of_an_episode_depends_on_its_seed_and_not_on_when_the_last_one_was_left() -> None:
    fam = family("bandit", {"max_episode_steps": 20})
    task = {"means": [0.5] * 10}
    first, second = fam.make_batched([task] * 2), fam.make_batched([task] * 2)
    for twin, left_after in ((first, 3), (second, 17)):
        twin.reset(seeds=[1, 2])
        for _ in range(left_after):
            twin.step(np.zeros(2, dtype=np.int64))
        twin.reset()
    paid = [[twin.step(np.zeros(2, dtype=np.int64))[1].tolist() for _ in range(20)] for twin in (first, second)]
    assert paid[0] == paid[1]
    assert [row[0] for row in paid[0]] != [row[1] for row in paid[0]]


def test_an_episode_is_drawn_with_a_row_an_arm() -> None:
    fam = family("bandit", {"arms": 3})
    actions, rewards = np.array([0, 1, 2, 1, 1]), np.array([0, 1, 0, 1, 0], dtype=np.float32)
    drawing = fam.draw_episode({"means": MEANS}, np.zeros(5, dtype=np.int64), actions, rewards)
    assert drawing == ("arm  mean  pulls 0 to 4\n  0  0.00  -····\n  1  1.00  ·+·+-\n  2  0.25  ··-··")


def test_a_long_episode_is_drawn_in_blocks_that_fit_a_terminal() -> None:
    fam = family("bandit")
    drawing = fam.draw_episode(fam.task_of_seed(0), *(np.zeros(100, dtype=np.int64) for _ in range(3)))
    lines = drawing.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.startswith("arm")] == [
        "arm  mean  pulls 0 to 49",
        "arm  mean  pulls 50 to 99",
    ]


@pytest.mark.parametrize("means", [[0.5], [0.5, 1.5], [0.5, -0.1], [0.5, "1"], [0.5, True], "ab", None, 0.5])
def test_means_that_are_no_chances_are_refused(means: object) -> None:
    message = f"means: expected two or more numbers from 0 to 1, got {means!r}. Give one for each arm."
    fam = family("bandit")
    for attempt in (fam.make, fam.best_return, lambda task: fam.make_batched([task])):
        with pytest.raises(InvalidValue) as caught:
            attempt({"means": means})
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"means": [0.1, 0.2]}, "means: expected 10 arms, got 2. Set --env-arg arms=2."),
        ({"goal": [1, 2]}, "task: expected one key, 'means', got ['goal']. Give {'means': [...]}."),
    ],
)
def test_a_task_of_another_family_is_refused(task: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        family("bandit").make(task)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"arms": 1}, "--env-arg arms: expected 2 to 1000, got 1. Change the value."),
        ({"max_episode_steps": 0}, "--env-arg max_episode_steps: expected 1 to 1,000,000, got 0. Change the value."),
        (
            {"max_episode_steps": 10**12},
            "--env-arg max_episode_steps: expected 1 to 1,000,000, got 1000000000000. Change the value.",
        ),
        (
            {"distribution": "evil"},
            "--env-arg distribution: expected one of odd, even, uniform, got 'evil'. Change the value.",
        ),
    ],
)
def test_an_argument_out_of_its_range_is_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        family("bandit", args)
    assert str(caught.value) == message
