"""A2C in lockstep against `stable_baselines3.A2C.train()`.

No draw is set aside: A2C's losses and the clipping of its gradients have no threshold at which an update jumps, and
ReLU's kink was met by none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lockstep_pairs import (
    apart,
    collect,
    crowd_of,
    differences,
    load_state,
    logged,
    model_of,
    parameters_of,
    shuffled_with_witnesses,
)
from stable_baselines3.common.utils import LinearSchedule

from historystore.lockstep import a2c
from historystore.lockstep.scratch import Scratch
from historystore.lockstep.template import a2c_settings, actor_critic_of, check_model

UPDATES = 20
PHASES = (Phase.explicit, Phase.generate)  # what fails says enough, and shrinking takes minutes
MOST_APART = 5e-4
"""Of the largest move that a parameter makes in the update."""
LOG_TOLERANCE = 1e-5
HYPERPARAMETERS = st.fixed_dictionaries(
    {
        "n_steps": st.integers(2, 40),
        "learning_rate": st.one_of(
            st.floats(1e-5, 1e-2), st.builds(LinearSchedule, st.just(1e-3), st.just(0.0), st.just(1.0))
        ),
        "gamma": st.floats(0.8, 1.0),
        "gae_lambda": st.floats(0.5, 1.0),
        "normalize_advantage": st.booleans(),
        "ent_coef": st.sampled_from([0.0, 0.01, 0.1]),
        "vf_coef": st.floats(0.1, 1.0),
        "max_grad_norm": st.floats(0.1, 10.0),
        "use_rms_prop": st.booleans(),
        "rms_prop_eps": st.floats(1e-6, 1e-3),
        "policy_kwargs": st.fixed_dictionaries(
            {
                "activation_fn": st.sampled_from([torch.nn.Tanh, torch.nn.ReLU, torch.nn.Sigmoid]),
                "net_arch": st.sampled_from([[16], {"pi": [8, 16], "vf": [24]}, [64, 64]]),
            }
        ),
    }
)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, phases=PHASES)
@given(
    hyperparameters=HYPERPARAMETERS,
    space=st.sampled_from(["box", "discrete", "multi", "binary"]),
    num_streams=st.integers(1, 3),
)
def test_restarted_from_its_state_each_of_20_updates_ends_as_stable_baselines3_ends_it(
    hyperparameters: dict[str, Any], space: str, num_streams: int
) -> None:
    model = model_of("A2C", space, num_streams=num_streams, seed=5, **hyperparameters)
    check_model(model)
    population, rng = crowd_of(model), np.random.default_rng(0)
    for update in range(UPDATES):
        rollout = shuffled_with_witnesses(collect(model), rng=rng)
        model._update_current_progress_remaining(update, UPDATES)
        load_state(model, population, learner=0)
        before = parameters_of(model, population, learner=0)[0].clone()
        model.train()
        logs = a2c.train(
            population,
            actor_critic_of(model, population.layout),
            rollout,
            a2c_settings(model),
            progress_remaining=model._current_progress_remaining,
            scratch=Scratch(),
        )
        assert apart(model, population, before) < MOST_APART
        assert differences(logged(model), logs[0], tolerance=LOG_TOLERANCE) == {}
