"""Tabular Q-learning against the equations, and until it has learned."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from historystore.classic.agent import Outcome
from historystore.classic.draws import learner_generators
from historystore.classic.q_learning import QLearning
from historystore.classic.schedule import Schedule
from historystore.classic.settings import QLearningSettings
from historystore.classic.states import StateIndex
from historystore.errors import InvalidValue


def test_states_are_numbered_one_by_one():
    space = gym.spaces.MultiDiscrete([3, 4, 2], start=[0, 5, 0])
    index = StateIndex.of(space)
    values = np.stack(np.meshgrid(range(3), range(5, 9), range(2), indexing="ij"), axis=-1).reshape(-1, 3)
    assert index.of_values(values).tolist() == list(range(24)) == list(range(index.num_states))
    shifted = StateIndex.of(gym.spaces.Discrete(5, start=2))
    assert shifted.of_values(np.arange(2, 7)).tolist() == list(range(5))


@pytest.mark.parametrize("space", [gym.spaces.Box(0, 1, (2,)), gym.spaces.Dict({"x": gym.spaces.Discrete(2)})])
def test_a_space_that_cannot_be_counted_is_refused(space):
    with pytest.raises(InvalidValue) as refusal:
        StateIndex.of(space)
    assert str(refusal.value) == (
        f"QLearning: expected Discrete or MultiDiscrete observations, got {space}. Use --algo dqn."
    )


def test_values_move_as_watkins_says_and_nothing_lies_behind_an_end():
    settings = QLearningSettings(
        learning_rate=0.5, gamma=0.9, initial_noise=0.0, initial_value=1.0, epsilon_start=0.0, epsilon_final=0.0
    )
    agent = QLearning(settings, learner_generators([0]), space=gym.spaces.Discrete(2), num_actions=2, num_steps=100)
    table = np.ones((2, 2))
    rng = np.random.default_rng(0)
    for step in range(100):
        state, action, following = rng.integers(2, size=3)
        reward, terminated = rng.random(), bool(rng.random() < 0.3)
        choice = agent.act(step, np.array([state]))
        assert choice.actions[0] == table[state].argmax()
        is_end = np.array([terminated])
        agent.learn(np.array([action]), Outcome(np.array([reward]), is_end, is_end, np.array([following])))
        goal = reward + (0 if terminated else 0.9 * table[following].max())
        table[state, action] += 0.5 * (goal - table[state, action])


@pytest.mark.parametrize(("shape", "middle"), [("linear", 0.55), ("cosine", 0.55)])
def test_epsilon_falls_from_start_to_final_and_holds_still_within_an_interval(shape, middle):
    schedule = Schedule(start=1.0, final=0.1, num_steps=1000.0, interval=100, shape=shape)
    values = [schedule.epsilon(step) for step in range(1300)]
    assert (values[0], values[99], values[1000], values[-1]) == (1.0, 1.0, 0.1, 0.1)
    assert values[500] == pytest.approx(middle)
    assert len(set(values)) == 11
    assert values == sorted(values, reverse=True)
