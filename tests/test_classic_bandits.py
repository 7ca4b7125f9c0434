"""UCB and Thompson sampling: how arms are chosen, and how likely each choice was."""

from __future__ import annotations

import math

import numpy as np
import pytest

from historystore.classic.agent import Outcome
from historystore.classic.draws import learner_generators
from historystore.classic.settings import ThompsonSettings, UcbSettings
from historystore.classic.thompson import Beliefs, Thompson
from historystore.classic.ucb import Ucb
from historystore.errors import InvalidValue
from historystore.tasks import family

NOTHING = np.zeros(0)


def _play(agent, means, *, num_steps):
    """Pull arms that pay their means; return actions and log-probabilities, (steps, learners)."""
    choices = []
    for step in range(num_steps):
        choice = agent.act(step, NOTHING)
        choices.append(choice)
        rewards = means[choice.actions]
        agent.learn(choice.actions, Outcome(rewards, rewards < 0, rewards < 0, NOTHING))
    return [np.stack(part) for part in zip(*choices, strict=True)]


def test_ucb_pulls_each_arm_once_in_an_order_drawn_at_random_and_then_the_highest_bound():
    means, num_learners = np.array([0.3, 0.6, 0.5]), 400
    agent = Ucb(UcbSettings(coefficient=0.7), learner_generators(range(num_learners)), num_actions=3)
    actions, log_probs = _play(agent, means, num_steps=40)
    assert np.array_equal(np.sort(actions[:3], axis=0), np.broadcast_to([[0], [1], [2]], (3, num_learners)))
    assert np.bincount(actions[0]) / num_learners == pytest.approx([1 / 3] * 3, abs=0.1)
    assert np.allclose(np.exp(log_probs[:3]), [[1 / 3], [1 / 2], [1]])
    pulls = np.ones(3)
    for step in range(3, 40):
        bounds = means + 0.7 * np.sqrt(2 * math.log(step) / pulls)
        assert set(actions[step]) == {bounds.argmax()}
        pulls[bounds.argmax()] += 1
    assert not log_probs[3:].any()


def test_a_thompson_samplers_log_probabilities_are_how_often_it_draws_that_arm():
    wins, losses = np.array([[3.0, 40.0, 9.0]]), np.array([[1.0, 30.0, 4.0]])
    beliefs = Beliefs((1, 3), prior=(1.0, 1.0))
    for arm in range(3):
        beliefs.set(np.array([arm]), wins[:, arm], losses[:, arm])
    draws = np.random.default_rng(0).beta(wins[0], losses[0], size=(200_000, 3)).argmax(axis=1)
    assert beliefs.chances()[0] == pytest.approx(np.bincount(draws, minlength=3) / 200_000, abs=0.004)


def test_a_thompson_samplers_chances_stay_right_where_beliefs_are_narrow_or_far_apart():
    wins, losses = np.array([[3000.0, 3030.0, 1.0, 2.0]]), np.array([[1000.0, 1000.0, 4000.0, 1.0]])
    beliefs = Beliefs((1, 4), prior=(1.0, 1.0))
    for arm in range(4):
        beliefs.set(np.array([arm]), wins[:, arm], losses[:, arm])
    draws = np.random.default_rng(0).beta(wins[0], losses[0], size=(200_000, 4)).argmax(axis=1)
    assert beliefs.chances()[0] == pytest.approx(np.bincount(draws, minlength=4) / 200_000, abs=0.01)


def test_a_thompson_sampler_refuses_rewards_that_are_no_chances():
    agent = Thompson(ThompsonSettings(), learner_generators([0]), num_actions=2)
    with pytest.raises(InvalidValue) as refusal:
        _play(agent, np.array([1.5, 1.5]), num_steps=1)
    assert str(refusal.value) == "ThompsonSampling: expected rewards from 0 to 1, got 1.5 to 1.5. Use --algo ucb."


@pytest.mark.parametrize(
    "build",
    [
        lambda generators: Ucb(UcbSettings(coefficient=0.3), generators, num_actions=10),
        lambda generators: Thompson(ThompsonSettings(), generators, num_actions=10),
    ],
    ids=["ucb", "thompson"],
)
def test_bandit_learners_end_at_an_arm_that_is_nearly_the_best(build):
    bandits = family("bandit")
    tasks = [bandits.task_of_seed(seed) for seed in range(60)]
    agent, rng = build(learner_generators(range(60))), np.random.default_rng(0)
    means = np.array([task["means"] for task in tasks])
    paid = []
    for step in range(1000):
        actions = agent.act(step, NOTHING).actions
        paid.append(means[np.arange(60), actions])
        rewards = (rng.random(60) < paid[-1]).astype(float)
        agent.learn(actions, Outcome(rewards, rewards < 0, rewards < 0, NOTHING))
    share = np.mean(paid[-200:], axis=0) / means.max(axis=1)
    assert (share >= 0.9).mean() >= 0.9
    assert np.mean(paid[:20], axis=0).mean() < 0.8 * means.max(axis=1).mean()
