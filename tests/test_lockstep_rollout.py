"""What learners in lockstep live, against Stable-Baselines3's own parts."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.buffers import RolloutBuffer

from historystore import tasks
from historystore.documents import LearnerSpec
from historystore.lockstep.engine import template_model
from historystore.lockstep.on_policy_run import OnPolicyRun
from historystore.lockstep.template import network_of, population_of
from historystore.lockstep.worlds import Worlds
from historystore.recording.engine import build_model

STREAMS = 2


def spec_of(seed: int, *, algorithm: str = "PPO", **hyperparameters: Any) -> LearnerSpec:
    return LearnerSpec(
        family="darkroom",
        task=tasks.family("darkroom").task_of_seed(seed),
        algorithm=algorithm,
        policy="MlpPolicy",
        hyperparameters=hyperparameters,
        num_streams=STREAMS,
        num_steps=200,
        seed=seed,
    )


class Moody:
    """Dark rooms that end at random, in both ways, and pay at random."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.observation_space: gym.Space[Any] = gym.spaces.MultiDiscrete([9, 9])
        self.action_space: gym.Space[Any] = gym.spaces.Discrete(5)
        self.source_observation_space: gym.Space[Any] | None = None
        self.tasks = ({},) * num_envs
        self._rng = np.random.default_rng(0)

    def _shown(self) -> np.ndarray:
        return self._rng.integers(9, size=(self.num_envs, 2))

    def source_observation(self) -> np.ndarray:
        raise AssertionError("nobody asks")

    def state(self) -> dict[str, np.ndarray]:
        raise AssertionError("nobody asks")

    def restore(self, state: Any) -> None:
        raise AssertionError("nobody asks")

    def reset(self, mask: np.ndarray | None = None, *, seeds: Any = None) -> np.ndarray:
        return self._shown()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        reward = self._rng.normal(size=self.num_envs)
        ends = self._rng.random((2, self.num_envs)) < 0.15
        return self._shown(), reward, ends[0], ends[1]


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "DQN"])
@pytest.mark.parametrize("kwargs", [{}, {"net_arch": [10, 7], "activation_fn": "ReLU"}])
def test_a_learner_begins_with_the_parameters_that_stable_baselines3_gives_to_its_seed(algorithm, kwargs):
    specs = [spec_of(seed, algorithm=algorithm, policy_kwargs=kwargs) for seed in (3, 4)]
    model = template_model(specs[0])
    torch.manual_seed(77)
    expected = torch.rand(3)
    torch.manual_seed(77)
    population = population_of(model, [3, 4])
    assert torch.equal(torch.rand(3), expected)  # the process's own generator has not moved
    for learner, spec in enumerate(specs):
        theirs = torch.nn.utils.parameters_to_vector(network_of(build_model(spec)).parameters())
        assert torch.equal(population.rows[learner, : len(theirs)], theirs)


def test_values_log_probs_and_advantages_are_those_of_stable_baselines3_on_the_same_steps():
    specs = [spec_of(seed, n_steps=50, gamma=0.9, gae_lambda=0.8) for seed in (3, 4, 5)]
    model: Any = template_model(specs[0])
    run = OnPolicyRun(model, specs, Worlds(Moody(len(specs) * STREAMS), seeds=[None] * 6))
    trace, rollout = run._collector.collect(lambda _: None)
    for learner in range(len(specs)):
        parameters = run.population.layout.read(run.population.rows[learner])
        model.policy.load_state_dict(parameters)
        buffer, rows = _buffer(model, trace, slice(learner * STREAMS, (learner + 1) * STREAMS)), slice(None)

        def ours(array: torch.Tensor, learner: int = learner) -> np.ndarray:
            return array[learner].view(STREAMS, 50).T.numpy()

        for name in ("values", "log_probs", "advantages", "returns"):
            np.testing.assert_allclose(ours(getattr(rollout, name)), getattr(buffer, name)[rows], rtol=1e-5, atol=3e-6)


def _buffer(model: Any, trace: Any, rows: slice) -> RolloutBuffer:
    """Fill Stable-Baselines3's buffer with the steps of one learner, as `collect_rollouts` does."""
    buffer = RolloutBuffer(50, model.observation_space, model.action_space, gamma=0.9, gae_lambda=0.8, n_envs=STREAMS)
    starts = np.ones(STREAMS)
    ends = {(end.step, row): view for end in trace.ends for row, view in zip(end.rows, end.views, strict=True)}
    for step in range(50):
        rewards = trace.rewards[step, rows].astype(np.float32)
        for stream, row in enumerate(range(rows.start, rows.stop)):
            if trace.truncated[step, row] and not trace.terminated[step, row]:
                view = torch.as_tensor(ends[step, row]).unsqueeze(0)
                rewards[stream] += model.gamma * model.policy.predict_values(view).item()
        obs, actions = torch.as_tensor(trace.observations[step, rows]), torch.as_tensor(trace.actions[step, rows])
        with torch.no_grad():
            values, log_probs, _ = model.policy.evaluate_actions(obs, actions)
        buffer.add(obs.numpy(), actions.numpy(), rewards, starts, values, log_probs)
        starts = (trace.terminated | trace.truncated)[step, rows].astype(np.float32)
    last = model.policy.predict_values(torch.as_tensor(trace.observations[50, rows])).detach()
    buffer.compute_returns_and_advantage(last, starts)
    return buffer


def test_actions_are_drawn_as_often_as_the_policy_says():
    specs = [spec_of(seed, n_steps=100) for seed in range(60)]
    run = OnPolicyRun(template_model(specs[0]), specs, Worlds(Moody(len(specs) * STREAMS), seeds=[None] * 120))
    run.population.layout.parameters["action_net.weight"].of(run.population.rows).mul_(100)  # away from uniform
    trace, rollout = run._collector.collect(lambda _: None)
    likely = rollout.log_probs.exp()
    drawn = len(trace.actions.reshape(-1))
    assert drawn == 12_000
    # the mean of 1/p over the draws is the number of actions, whatever p is
    assert abs(float((1 / likely).mean()) - 5) < 0.1
    assert likely.std() > 0.03


def test_free_running_updates_drift_from_those_of_stable_baselines3_by_a_known_bound():
    from lockstep_pairs import collect, crowd_of, load_state, model_of, parameters_of, shuffled_with_witnesses

    from historystore.lockstep import ppo
    from historystore.lockstep.scratch import Scratch
    from historystore.lockstep.template import actor_critic_of, ppo_settings

    model = model_of("PPO", "multi", num_streams=1, seed=5, n_steps=200, batch_size=50, n_epochs=10, learning_rate=3e-4)
    population, rng, drift = crowd_of(model), np.random.default_rng(0), []
    load_state(model, population, learner=0)
    begin = parameters_of(model, population, learner=0)[0].clone()
    for update in range(20):
        rollout = shuffled_with_witnesses(collect(model), rng=rng)
        np.random.seed(update)  # noqa: NPY002 - stable-baselines3 draws from it
        model.train()
        order = np.random.RandomState(update)
        orders = np.stack([order.permutation(200) for _ in range(10)])
        ppo.train(
            population,
            actor_critic_of(model, population.layout),
            rollout,
            np.stack([orders] * len(rollout.actions)),
            ppo_settings(model),
            progress_remaining=1.0,
            scratch=Scratch(),
        )
        theirs, ours = parameters_of(model, population, learner=0)
        drift.append(float((theirs - ours).norm() / (theirs - begin).norm()))
    assert drift[-1] < 0.02, drift
