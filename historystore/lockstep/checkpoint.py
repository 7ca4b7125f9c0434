"""A learner in lockstep as a Stable-Baselines3 model (imports stable_baselines3)."""

from __future__ import annotations

from typing import Any

import torch

from historystore.documents import LearnerSpec
from historystore.lockstep.stretch import Run
from historystore.lockstep.template import network_of


def become(model: Any, run: Run, learner: int, spec: LearnerSpec) -> None:
    """Make a model of the template's settings the model that Stable-Baselines3 would have of a learner at this moment.

    It acts as the learner does, and with an environment it goes on learning from the learner's optimiser state.
    """
    population, network = run.population, network_of(model)
    parameters = population.layout.read(population.rows[learner])
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(parameters[name])
    states = zip(network.parameters(), population.optimiser_state(learner), strict=True)
    for parameter, state in states:
        model.policy.optimizer.state[parameter] = {name: tensor.clone() for name, tensor in state.items()}
    model.seed = spec.seed
    model.num_timesteps = run.num_steps * spec.num_streams
    model._n_updates = int(population.num_updates[learner])
    model._current_progress_remaining = 1.0 - model.num_timesteps / spec.num_steps
    model._update_learning_rate(model.policy.optimizer)
    run.complete(model, learner)
