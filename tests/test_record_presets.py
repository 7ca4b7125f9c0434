import subprocess
import sys

import numpy as np
import pytest

from historystore.documents import LearnerSpec
from historystore.errors import InvalidValue
from historystore.recording.engine import build_model
from historystore.recording.presets import algorithms, preset
from historystore.tasks import families, family

ALL = [(algo, name) for algo in ("ppo", "a2c", "dqn") for name in families()]


def test_the_algorithms_are_named() -> None:
    assert algorithms() == ["a2c", "dqn", "ppo"]


@pytest.mark.parametrize(("algo", "name"), ALL)
def test_every_algorithm_has_a_preset_for_every_family_that_its_constructor_takes(algo: str, name: str) -> None:
    chosen = preset(algo, name)
    spec = LearnerSpec(
        family=name,
        env_args={},
        task=family(name).task_of_seed(0),
        algorithm=chosen.algorithm,
        policy=chosen.policy,
        hyperparameters=chosen.hyperparameters,
        num_streams=chosen.num_streams,
        num_steps=chosen.num_steps,
        seed=0,
    )
    model = build_model(spec)
    assert type(model).__name__ == algo.upper() == chosen.algorithm
    assert model.n_envs == chosen.num_streams
    model.learn(chosen.num_streams * 20)
    assert chosen.why


def test_a_ppo_learner_of_the_preset_finds_a_near_goal_and_stays_there() -> None:
    chosen, task = preset("ppo", "darkroom"), {"goal": [5, 6]}
    spec = LearnerSpec(
        family="darkroom",
        env_args={},
        task=task,
        algorithm=chosen.algorithm,
        policy=chosen.policy,
        hyperparameters=chosen.hyperparameters,
        num_streams=chosen.num_streams,
        num_steps=chosen.num_steps,
        seed=0,
    )
    model = build_model(spec)
    model.learn(chosen.num_steps)
    twin = family("darkroom").make_batched([task] * 200)
    obs, total = twin.reset(), np.zeros(200)
    for _ in range(20):
        actions, _ = model.predict(obs, deterministic=False)
        obs, rewards, *_ = twin.step(actions)
        total += rewards
    assert total.mean() >= 0.9 * family("darkroom").best_return(task)


def test_an_unknown_algorithm_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidValue) as caught:
        preset("sac", "darkroom")
    assert str(caught.value) == "algo: no algorithm is called 'sac', expected one of a2c, dqn, ppo. Check the name."


def test_a_family_without_a_preset_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(InvalidValue) as caught:
        preset("ppo", "cartpole")
    assert str(caught.value) == (
        "env: ppo has no preset for 'cartpole', expected one of darkroom, darkroom-hard. Check the name."
    )


def test_the_presets_load_no_learner() -> None:
    script = "import sys, historystore.recording.presets; sys.exit(sum(m in sys.modules for m in ('torch', 'h5py')))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
