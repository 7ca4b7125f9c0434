"""What one learner in lockstep does to the others: nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from historystore import tasks
from historystore.documents import LearnerSpec
from historystore.lockstep.dqn_run import DqnRun
from historystore.lockstep.engine import template_model
from historystore.lockstep.on_policy_run import OnPolicyRun
from historystore.lockstep.worlds import Trace, Worlds

PPO = {"n_steps": 35, "batch_size": 11, "n_epochs": 3, "learning_rate": 3e-3, "ent_coef": 0.01}
CASES = {
    "ppo": ("PPO", PPO, 1),
    "ppo-odd-sizes": ("PPO", PPO | {"policy_kwargs": {"net_arch": {"pi": [10, 7], "vf": [5]}}}, 3),
    "ppo-target-kl": ("PPO", PPO | {"target_kl": 0.002, "clip_range_vf": 0.2}, 2),
    "ppo-relu": ("PPO", PPO | {"policy_kwargs": {"activation_fn": "ReLU", "net_arch": [64, 64]}}, 1),
    "a2c": ("A2C", {"n_steps": 7, "learning_rate": 3e-3}, 2),
    "a2c-whole-lanes": ("A2C", {"n_steps": 20, "learning_rate": 3e-3}, 1),
    "dqn": ("DQN", {"learning_starts": 20, "batch_size": 13, "learning_rate": 3e-3, "exploration_fraction": 1.0}, 2),
}


def run_of(case: str, seeds: Sequence[int]) -> OnPolicyRun | DqnRun:
    algorithm, hyperparameters, num_streams = CASES[case]
    family = tasks.family("darkroom")
    specs = [
        LearnerSpec(
            family="darkroom",
            task=family.task_of_seed(seed),
            algorithm=algorithm,
            policy="MlpPolicy",
            hyperparameters=hyperparameters,
            num_streams=num_streams,
            num_steps=420,
            seed=seed,
        )
        for seed in seeds
    ]
    worlds = Worlds(
        family.make_batched([spec.task for spec in specs for _ in range(num_streams)]),
        seeds=[None] * len(specs) * num_streams,
    )
    model: Any = template_model(specs[0])
    return DqnRun(model, specs, worlds) if algorithm == "DQN" else OnPolicyRun(model, specs, worlds)


def lived(run: OnPolicyRun | DqnRun) -> tuple[torch.Tensor, list[Trace], list[dict[str, float]]]:
    """Return the parameters at the end, everything that was lived, and learner 0's logs."""
    stretches = []
    while not run.is_done:
        stretches.append(run.advance(lambda _: None))
    logs = [update.logs[0] for stretch in stretches for update in stretch.updates]
    return run.population.rows, [stretch.trace for stretch in stretches], logs


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_others", [2, 30, 70])
def test_a_learner_is_bit_equal_whoever_rides_with_it(case: str, num_others: int) -> None:
    rows, traces, logs = lived(run_of(case, [7, 8]))
    many_rows, many_traces, many_logs = lived(run_of(case, [7, *range(100, 100 + num_others)]))
    last_rows, _, _ = lived(run_of(case, [*range(100, 100 + num_others), 7]))
    num_streams = CASES[case][2]
    assert torch.equal(rows[0], many_rows[0])
    assert torch.equal(rows[0], last_rows[-1])
    assert np.array_equal([*map(str, logs)], [*map(str, many_logs)])
    for trace, many in zip(traces, many_traces, strict=True):
        assert np.array_equal(trace.actions[:, :num_streams], many.actions[:, :num_streams])
        for name, array in trace.fields.items():
            assert np.array_equal(array[:, :num_streams], many.fields[name][:, :num_streams])


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("case", CASES)
def test_changing_one_learner_leaves_every_other_bit_equal(case: str) -> None:
    plain, changed, broken = (run_of(case, range(5)) for _ in range(3))
    changed.population.rows[2] += 0.1
    broken.population.rows[2] = torch.nan
    rows, _, _ = lived(plain)
    for run in (changed, broken):
        others, _, _ = lived(run)
        assert not torch.equal(rows[2], others[2])
        assert all(torch.equal(rows[learner], others[learner]) for learner in (0, 1, 3, 4))
