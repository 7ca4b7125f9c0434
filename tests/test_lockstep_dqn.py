"""DQN in lockstep against `stable_baselines3.DQN.train()`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lockstep_pairs import WITNESSES, Nothing, crowd_of, load_state, logged, model_of, parameters_of
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import LinearSchedule, polyak_update

from historystore.lockstep import dqn
from historystore.lockstep.features import Features
from historystore.lockstep.scratch import Scratch
from historystore.lockstep.template import check_model, dqn_settings

UPDATES = 20
MOST_APART = 3e-3
"""Of the largest move that a parameter makes in the update: rounding in 1e-7 parts, through Adam and some steps."""
LOSS_TOLERANCE = 2e-5

HYPERPARAMETERS = st.fixed_dictionaries(
    {
        "batch_size": st.integers(2, 50),
        "gradient_steps": st.integers(1, 4),
        "train_freq": st.integers(2, 9),
        "learning_rate": st.one_of(
            st.floats(1e-5, 1e-2), st.builds(LinearSchedule, st.floats(1e-4, 1e-2), st.just(0.0), st.just(1.0))
        ),
        "gamma": st.floats(0.8, 1.0),
        "max_grad_norm": st.floats(0.05, 10.0),
        "tau": st.sampled_from([1.0, 0.3, 0.01]),
        "buffer_size": st.integers(40, 300),
        "policy_kwargs": st.fixed_dictionaries(
            {
                "activation_fn": st.sampled_from([torch.nn.Tanh, torch.nn.ReLU, torch.nn.ELU, torch.nn.LeakyReLU]),
                "net_arch": st.sampled_from([[16], [], [7, 5, 3], [64, 64]]),
            }
        ),
    }
)


def transitions_of(model: Any, sample: ReplayBufferSamples, *, rng: np.random.Generator) -> dqn.Transitions:
    """Return a batch as learner 0's, with learners beside it that replay the same steps in other orders."""
    features = Features(model.observation_space)
    num_rows = len(sample.actions)
    orders = [np.arange(num_rows), *(rng.permutation(num_rows) for _ in range(WITNESSES))]

    def beside(array: torch.Tensor) -> torch.Tensor:
        return torch.stack([array[order] for order in orders])

    return dqn.Transitions(
        features=beside(features(sample.observations.numpy())),
        actions=beside(sample.actions[:, 0].long()),
        rewards=beside(sample.rewards[:, 0]),
        terminated=beside(sample.dones[:, 0]),
        next_features=beside(features(sample.next_observations.numpy())),
    )


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    hyperparameters=HYPERPARAMETERS,
    space=st.sampled_from(["box", "discrete", "multi", "binary"]),
    num_streams=st.integers(1, 3),
)
@pytest.mark.filterwarnings("ignore:The number of environments used is greater than the target")
def test_restarted_from_its_state_each_of_20_updates_ends_as_stable_baselines3_ends_it(
    hyperparameters: dict[str, Any], space: str, num_streams: int
) -> None:
    model = model_of("DQN", space, num_streams=num_streams, seed=5, learning_starts=0, **hyperparameters)
    check_model(model)
    population, rng, scratch = crowd_of(model), np.random.default_rng(0), Scratch()
    chosen = dqn_settings(model)
    network = dqn.q_network_of(
        population.layout,
        num_hidden=len(model.policy.net_arch),
        activation_name=model.policy.activation_fn.__name__,
    )
    targets = population.rows.clone()
    callback = Nothing()
    callback.init_callback(model)
    for update in range(UPDATES):
        model.collect_rollouts(model.env, callback, model.train_freq, model.replay_buffer)
        model._update_current_progress_remaining(update, UPDATES)
        load_state(model, population, learner=0)
        population.layout.write(targets[0], dict(model.policy.q_net_target.named_parameters()))
        before = parameters_of(model, population, learner=0)[0].clone()
        np.random.seed(update)  # noqa: NPY002 - stable-baselines3 draws from it
        samples = [model.replay_buffer.sample(chosen.batch_size) for _ in range(chosen.gradient_steps)]
        np.random.seed(update)  # noqa: NPY002 - so that it draws the same batches
        model.train(chosen.gradient_steps, chosen.batch_size)
        losses = [
            dqn.train(
                population,
                targets,
                network,
                transitions_of(model, sample, rng=rng),
                chosen,
                progress_remaining=model._current_progress_remaining,
                scratch=scratch,
            )
            for sample in samples
        ]
        theirs, ours = parameters_of(model, population, learner=0)
        assert float((theirs - ours).abs().max()) <= MOST_APART * float((theirs - before).abs().max())
        assert float(torch.stack(losses)[:, 0].mean()) == pytest.approx(
            logged(model)["train/loss"], rel=LOSS_TOLERANCE, abs=LOSS_TOLERANCE
        )


def test_target_networks_follow_as_those_of_stable_baselines3_do() -> None:
    rows, targets = torch.randn(3, 16), torch.randn(3, 16)
    for tau in (1.0, 0.25):
        expected = targets.clone()
        polyak_update([rows], [expected], tau)
        dqn.follow(targets, rows, tau=tau)
        assert torch.equal(targets, expected)
