"""The growing context of an agent that acts: a cache that is never anything but a shortcut."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from distill import ModelConfig
from distill.actions import ActionCode
from distill.context import Context
from distill.model import DistilledAgent
from distill.rollouts import iter_rollouts, roll_out
from historystore.tasks import family

CONTEXT, EPISODE = 16, 4


def agent(positions: str = "rotary", context_length: int = CONTEXT) -> DistilledAgent:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"width": 16, "heads": 2, "layers": 2, "positions": positions})
    darkroom = family("darkroom")
    made = DistilledAgent(
        config,
        context_length=context_length,
        observation_space=darkroom.observation_space,
        action_space=darkroom.action_space,
    )
    torch.nn.init.normal_(made.head.weight)
    return made.eval()


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@torch.inference_mode()
def test_cached_logits_are_those_of_the_whole_context_recomputed_far_beyond_its_length(positions: str) -> None:
    model, num_envs = agent(positions), 5
    context, generator = Context(model, num_envs=num_envs), np.random.default_rng(0)
    lengths = []
    for step in range(3 * CONTEXT):
        obs = generator.integers(9, size=(num_envs, 2))
        start = np.full(num_envs, step % EPISODE == 0)
        logits = context.logits(obs, start)
        lengths.append(context.length)
        torch.testing.assert_close(logits, model(context.tokens())[:, -1], rtol=1e-4, atol=1e-5)
        action = torch.from_numpy(generator.integers(5, size=num_envs))
        context.complete(action, generator.random(num_envs, dtype=np.float32))
    assert max(lengths) == CONTEXT
    assert min(lengths[CONTEXT:]) > CONTEXT // 2


@torch.inference_mode()
def test_a_full_context_keeps_the_latest_transitions_in_order() -> None:
    context = Context(agent(), num_envs=1)
    for step in range(3 * CONTEXT + 1):
        context.logits(np.array([[step % 9, step // 9 % 9]]), np.array([step % EPISODE == 0]))
        context.complete(torch.tensor([step % 5]), np.array([float(step)], np.float32))
    steps = np.arange(3 * CONTEXT + 1 - context.length, 3 * CONTEXT + 1)
    assert context.reward[0, : context.length].tolist() == steps.tolist()
    assert context.action[0, : context.length].tolist() == (steps % 5).tolist()
    assert context.episode_start[0, : context.length].tolist() == (steps % EPISODE == 0).tolist()
    window = context.tokens()
    assert not window.has_previous[0, 0].any()
    assert window.previous_reward[0, 1:].tolist() == steps[:-1].tolist()


@torch.inference_mode()
def test_what_is_dropped_is_an_eighth_or_whole_episodes_where_all_environments_agree() -> None:
    agreed, apart = Context(agent(), num_envs=2), Context(agent(), num_envs=2)
    for step in range(CONTEXT + 1):
        obs = np.zeros((2, 2), np.int64)
        for context, starts in ((agreed, [step % 4 == 0] * 2), (apart, [step % 4 == 0, step % 3 == 0])):
            context.logits(obs, np.array(starts))
            context.complete(torch.tensor([0, 0]), np.zeros(2, np.float32))
    assert agreed.length == CONTEXT + 1 - 4
    assert agreed.episode_start[:, 0].all()
    assert apart.length == CONTEXT + 1 - CONTEXT // 8


def test_actions_are_sampled_in_proportion() -> None:
    logits = torch.log(torch.tensor([0.1, 0.2, 0.7])).expand(20000, 3)
    code = ActionCode.of(gym.spaces.Discrete(3), bins=2)
    counts = torch.bincount(code.sample(logits, torch.Generator().manual_seed(0)), minlength=3) / 20000
    np.testing.assert_allclose(counts, [0.1, 0.2, 0.7], atol=0.02)


def test_rollouts_add_up_rewards_episode_by_episode_beyond_the_context() -> None:
    darkroom = family("darkroom")
    tasks = [{"goal": [4, 4]}, {"goal": [0, 0]}]
    lived = roll_out(agent(), darkroom, tasks, num_rollouts=3, num_episodes=4, seed=0)
    assert lived.returns.shape == (2, 3, 4)
    assert (lived.lengths == 20).all()

    rewards = []
    env = darkroom.make_batched([task for task in tasks for _ in range(3)])
    step = env.step
    env.step = lambda actions: rewards.append(step(actions)) or rewards[-1]
    seed = int(np.random.SeedSequence([0, 0]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    list(iter_rollouts(agent(), env, num_episodes=4, seed=seed))
    by_hand = np.array([reward for _, reward, _, _ in rewards]).reshape(4, 20, 6).sum(axis=1).T.reshape(2, 3, 4)
    np.testing.assert_array_equal(by_hand, lived.returns)


def test_rollouts_are_a_function_of_the_seed_and_leave_the_callers_generator_alone() -> None:
    def live(seed: int) -> np.ndarray:
        tasks = [{"goal": [4, 5]}] * 2
        return roll_out(agent(), family("darkroom"), tasks, num_rollouts=8, num_episodes=2, seed=seed).returns

    model_draws = torch.get_rng_state()
    torch.manual_seed(7)
    first = live(1)
    np.testing.assert_array_equal(first, live(1))
    assert (first != live(2)).any()
    torch.set_rng_state(model_draws)


def test_environments_that_draw_at_random_draw_from_the_seed() -> None:
    """The actions do not show it: here all are the same."""
    bandit = family("bandit")
    made = DistilledAgent(
        ModelConfig(width=16, heads=2),
        context_length=4,
        observation_space=bandit.observation_space,
        action_space=bandit.action_space,
    ).eval()
    with torch.no_grad():
        made.head.bias[0] = 1e6
    tasks = [bandit.task_of_seed(seed) for seed in range(4)]

    def live(seed: int) -> np.ndarray:
        return roll_out(made, bandit, tasks, num_rollouts=2, num_episodes=2, seed=seed).returns

    first = live(1)
    np.testing.assert_array_equal(first, live(1))
    assert (first != live(2)).any()
    assert (first[:, 0] != first[:, 1]).any()


def test_environments_whose_episodes_end_apart_each_live_all_their_episodes() -> None:
    class Uneven:
        """Environment `i` ends its episodes after `i + 2` steps, and pays 1 a step."""

        num_envs = 3
        tasks = ()
        observation_space = gym.spaces.MultiDiscrete([9, 9])
        action_space = gym.spaces.Discrete(5)
        source_observation_space = None
        clock = np.zeros(3, np.int64)

        def source_observation(self) -> np.ndarray: ...
        def state(self) -> dict[str, np.ndarray]: ...
        def restore(self, state: object) -> None: ...

        def reset(self, mask: np.ndarray | None = None, *, seeds: object = None) -> np.ndarray:
            self.clock = np.where(True if mask is None else mask, 0, self.clock)
            return np.zeros((3, 2), np.int64)

        def step(self, actions: np.ndarray) -> tuple[np.ndarray, ...]:
            self.clock = self.clock + 1
            is_done = self.clock == np.arange(3) + 2
            return np.zeros((3, 2), np.int64), np.ones(3), is_done, np.zeros(3, bool)

    *_, log = iter_rollouts(agent(), Uneven(), num_episodes=5, seed=0)
    np.testing.assert_array_equal(log.returns[:, :-1], np.repeat([[2.0], [3.0], [4.0]], 5, axis=1))
    np.testing.assert_array_equal(log.lengths[:, :-1], np.repeat([[2], [3], [4]], 5, axis=1))
