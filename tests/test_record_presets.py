import subprocess
import sys

import numpy as np
import pytest

from historystore.documents import LearnerSpec
from historystore.recording.algorithms import algorithm
from historystore.recording.engine import build_model
from historystore.recording.policies import resolve_policy, source_space
from historystore.recording.presets import preset, presets
from historystore.recording.signature import signature
from historystore.tasks import family

BY_SB3 = [(algo, name) for algo, name in presets() if algorithm(algo).engine == "sb3"]


def spec_of(algo: str, name: str, **changes: object) -> LearnerSpec:
    chosen, world, known = preset(algo, name), family(name), algorithm(algo)
    return LearnerSpec(
        **{
            "family": name,
            "env_args": {},
            "task": world.task_of_seed(0),
            "algorithm": known.name,
            "policy": resolve_policy(chosen.policy, signature(known), observations=source_space(world)),
            "hyperparameters": chosen.hyperparameters,
            "num_streams": chosen.num_streams,
            "num_steps": chosen.num_steps,
            "seed": 0,
            **changes,
        }
    )


@pytest.mark.parametrize(("algo", "name"), BY_SB3)
def test_every_preset_is_one_that_the_constructor_takes_and_says_why(algo: str, name: str) -> None:
    chosen = preset(algo, name)
    model = build_model(spec_of(algo, name))
    assert type(model).__name__ == algorithm(algo).name
    assert model.n_envs == chosen.num_streams
    model.learn(chosen.num_streams * 20)
    assert chosen.why


def test_a_ppo_learner_of_the_preset_finds_a_near_goal_and_stays_there() -> None:
    task = {"goal": [5, 6]}
    spec = spec_of("ppo", "darkroom", task=task)
    model = build_model(spec)
    model.learn(spec.num_steps)
    twin = family("darkroom").make_batched([task] * 200)
    obs, total = twin.reset(), np.zeros(200)
    for _ in range(20):
        actions, _ = model.predict(obs, deterministic=False)
        obs, rewards, *_ = twin.step(actions)
        total += rewards
    best = family("darkroom").best_return(task)
    assert best is not None
    assert total.mean() >= 0.9 * best


def test_where_nobody_has_measured_anything_the_algorithms_own_defaults_hold_and_no_number_of_steps() -> None:
    chosen = preset("ppo", "Acrobot-v1")
    assert (chosen.hyperparameters, chosen.num_streams, chosen.num_steps, chosen.policy) == ({}, 1, None, None)


def test_the_presets_load_no_learner() -> None:
    script = "import sys, historystore.recording.presets; sys.exit(sum(m in sys.modules for m in ('torch', 'h5py')))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
