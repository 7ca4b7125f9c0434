"""DQN in lockstep against `stable_baselines3.DQN.train()`, on the same replayed transitions.

No draw is set aside: the Huber loss has a continuous slope, the best next action is taken by its value alone, and so
an update has no threshold at which it jumps; ReLU's kink was met by none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lockstep_pairs import WITNESSES, Nothing, apart, crowd_of, load_state, logged, model_of, parameters_of

from historystore.lockstep import dqn
from historystore.lockstep.features import Features
from historystore.lockstep.scratch import Scratch
from historystore.lockstep.template import check_model, dqn_settings

UPDATES = 20
PHASES = (Phase.explicit, Phase.generate)  # what fails says enough, and shrinking takes minutes
MOST_APART = 5e-4
"""Of the largest move that a parameter makes in the update."""
LOG_TOLERANCE = 1e-5
HYPERPARAMETERS = st.fixed_dictionaries(
    {
        "learning_rate": st.floats(1e-5, 1e-2),
        "batch_size": st.integers(1, 40),
        "gamma": st.floats(0.8, 1.0),
        "tau": st.sampled_from([1.0, 0.3]),
        "gradient_steps": st.integers(1, 3),
        "target_update_interval": st.sampled_from([1, 7, 10_000]),
        "max_grad_norm": st.floats(0.1, 10.0),
        "policy_kwargs": st.fixed_dictionaries(
            {
                "activation_fn": st.sampled_from([torch.nn.Tanh, torch.nn.ReLU]),
                "net_arch": st.sampled_from([[16], [8, 24], [], [64, 64]]),
            }
        ),
    }
)


def replayed(model: Any, seed: int) -> list[dqn.Transitions]:
    """Return the batches that `model.train()` draws after `np.random.seed(seed)`, the same for every learner."""
    np.random.seed(seed)  # noqa: NPY002 - stable-baselines3 draws from it
    seen, batches = Features(model.observation_space), []
    for _ in range(model.gradient_steps):
        batch = model.replay_buffer.sample(model.batch_size)

        def crowd(array: torch.Tensor) -> torch.Tensor:
            return array.expand(1 + WITNESSES, *array.shape).contiguous()

        batches.append(
            dqn.Transitions(
                features=crowd(seen(batch.observations.numpy())),
                actions=crowd(batch.actions.flatten().long()),
                rewards=crowd(batch.rewards.flatten()),
                terminated=crowd(batch.dones.flatten()),
                next_features=crowd(seen(batch.next_observations.numpy())),
            )
        )
    return batches


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, phases=PHASES)
@given(
    hyperparameters=HYPERPARAMETERS,
    space=st.sampled_from(["box", "discrete", "multi", "binary"]),
    num_streams=st.integers(1, 3),
)
def test_restarted_from_its_state_each_of_20_updates_ends_as_stable_baselines3_ends_it(
    hyperparameters: dict[str, Any], space: str, num_streams: int
) -> None:
    model = model_of("DQN", space, num_streams=num_streams, seed=5, buffer_size=100, **hyperparameters)
    check_model(model)
    population, targets = crowd_of(model), crowd_of(model).rows
    network = dqn.q_network_of(
        population.layout,
        num_hidden=len(model.policy.net_arch),
        activation_name=model.policy.activation_fn.__name__,
    )
    callback = Nothing()
    callback.init_callback(model)
    for update in range(UPDATES):
        model.collect_rollouts(model.env, callback, model.train_freq, model.replay_buffer)
        load_state(model, population, learner=0)
        population.layout.write(targets[0], dict(model.policy.q_net_target.named_parameters()))
        before = parameters_of(model, population, learner=0)[0].clone()
        losses = [
            dqn.train(
                population,
                targets,
                network,
                batch,
                dqn_settings(model),
                progress_remaining=model._current_progress_remaining,
                scratch=Scratch(),
            )
            for batch in replayed(model, update)
        ]
        np.random.seed(update)  # noqa: NPY002
        model.train(gradient_steps=model.gradient_steps, batch_size=model.batch_size)
        assert apart(model, population, before) < MOST_APART
        loss = float(torch.stack(losses).double().mean(0)[0])
        assert np.isclose(logged(model)["train/loss"], loss, rtol=LOG_TOLERANCE, atol=LOG_TOLERANCE)


def test_target_networks_follow_as_stable_baselines3_lets_them() -> None:
    model = model_of("DQN", "box", num_streams=1, seed=5, tau=0.3, target_update_interval=1)
    population = crowd_of(model)
    targets = population.rows * 0.5
    population.layout.write(targets[0], dict(model.policy.q_net_target.named_parameters()))
    with torch.no_grad():
        for parameter in model.policy.q_net.parameters():
            parameter.mul_(1.7)
    load_state(model, population, learner=0)
    dqn.follow(targets, population.rows, tau=0.3)
    model._on_step()
    theirs = torch.nn.utils.parameters_to_vector(model.policy.q_net_target.parameters())
    assert torch.allclose(targets[0, : len(theirs)], theirs, rtol=1e-6, atol=1e-7)
