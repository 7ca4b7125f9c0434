"""The specification that the recorder reads off a model."""

import subprocess
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from known_env import KnownEnv
from stable_baselines3 import A2C, DQN, PPO, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecMonitor, VecNormalize

import historystore
from historystore import tasks
from historystore.commit import git_commit
from historystore.documents import LearnerSpec
from historystore.errors import InvalidValue
from historystore.sb3 import HistoryRecorder

torch.set_num_threads(1)


def spec_of(model: BaseAlgorithm, path: Any, *, steps: int = 20, **options: Any) -> LearnerSpec:
    recorder = HistoryRecorder(path, **options)
    model.learn(steps, callback=recorder)
    return next(learner.spec for learner in historystore.open(path).learners if learner.id == recorder.learner)


def test_every_hyperparameter_is_in_it(tmp_path: Any) -> None:
    model = PPO(
        "MlpPolicy",
        DummyVecEnv([lambda s=s: KnownEnv(s) for s in range(2)]),
        learning_rate=lambda left: 1e-3 * left,
        n_steps=16,
        batch_size=8,
        policy_kwargs={"net_arch": {"pi": [4], "vf": [8]}, "activation_fn": torch.nn.ReLU},
        seed=11,
        device="cpu",
    )
    spec = spec_of(model, tmp_path / "s", steps=50)
    assert spec == LearnerSpec(
        family="KnownEnv",
        algorithm="PPO",
        policy="MlpPolicy",
        hyperparameters={
            "learning_rate": {
                "schedule": f"{__name__}.test_every_hyperparameter_is_in_it.<locals>.<lambda>",
                "values": [1e-3 * (tenth / 10) for tenth in range(10, -1, -1)],
            },
            "n_steps": 16,
            "batch_size": 8,
            "n_epochs": 10,
            "gamma": 0.99,
            "gae_lambda": 0.95,
            "clip_range": 0.2,
            "clip_range_vf": None,
            "normalize_advantage": True,
            "ent_coef": 0.0,
            "vf_coef": 0.5,
            "max_grad_norm": 0.5,
            "use_sde": False,
            "sde_sample_freq": -1,
            "rollout_buffer_class": "stable_baselines3.common.buffers.RolloutBuffer",
            "rollout_buffer_kwargs": {},
            "target_kl": None,
            "policy_kwargs": {
                "net_arch": {"pi": [4], "vf": [8]},
                "activation_fn": "torch.nn.modules.activation.ReLU",
            },
        },
        num_streams=2,
        num_steps=50,
        seed=11,
    )


def test_frequencies_noise_and_generated_policy_arguments_are_in_it(tmp_path: Any) -> None:
    noise = NormalActionNoise(np.zeros(2), np.full(2, 0.1))
    td3 = TD3("MlpPolicy", KnownEnv(actions="box"), train_freq=(2, "step"), action_noise=noise, seed=0, device="cpu")
    hyperparameters = spec_of(td3, tmp_path / "td3").hyperparameters
    assert hyperparameters["train_freq"] == [2, "step"]
    assert hyperparameters["action_noise"] == {
        "class": "stable_baselines3.common.noise.NormalActionNoise",
        "mu": [0.0, 0.0],
        "sigma": [0.1, 0.1],
        "dtype": "numpy.float32",
    }
    a2c = spec_of(A2C("MlpPolicy", KnownEnv(), seed=0, device="cpu"), tmp_path / "a2c").hyperparameters
    assert a2c["policy_kwargs"] == {
        "optimizer_class": "torch.optim.rmsprop.RMSprop",
        "optimizer_kwargs": {"alpha": 0.99, "eps": 1e-5, "weight_decay": 0},
    }


def test_what_nobody_learns_from_is_not_in_it(tmp_path: Any) -> None:
    quiet = spec_of(DQN("MlpPolicy", KnownEnv(), seed=0, device="cpu"), tmp_path / "one")
    loud = DQN("MlpPolicy", VecMonitor(DummyVecEnv([KnownEnv])), seed=0, device="cpu", stats_window_size=5)
    assert spec_of(loud, tmp_path / "two") == quiet


def test_wrappers_and_arguments_that_change_the_learning_are_in_it(tmp_path: Any) -> None:
    def made(**kwargs: Any) -> DummyVecEnv:
        return DummyVecEnv([lambda: gym.wrappers.TransformReward(gym.make("CartPole-v1", **kwargs), float)])

    vec = VecFrameStack(VecNormalize(made(max_episode_steps=30, sutton_barto_reward=True), norm_reward=False), 3)
    spec = spec_of(A2C("MlpPolicy", vec, seed=0, device="cpu"), tmp_path / "s")
    assert spec.family == "CartPole-v1"
    assert spec.env_args == {
        "sutton_barto_reward": True,
        "max_episode_steps": 30,
        "wrappers": [{"class": "gymnasium.wrappers.transform_reward.TransformReward", "args": {"func": "float"}}],
        "vec_wrappers": [
            {
                "class": "stable_baselines3.common.vec_env.vec_normalize.VecNormalize",
                "training": True,
                "norm_obs": True,
                "norm_reward": False,
                "clip_obs": 10.0,
                "clip_reward": 10.0,
                "gamma": 0.99,
                "epsilon": 1e-8,
                "norm_obs_keys": None,
            },
            {
                "class": "stable_baselines3.common.vec_env.vec_frame_stack.VecFrameStack",
                "n_stack": 3,
            },
        ],
    }


def test_the_task_is_the_callers_or_the_environments(tmp_path: Any) -> None:
    def model(*tasks_told: Any) -> A2C:
        vec = DummyVecEnv([lambda s=s, task=task: KnownEnv(s, task=task) for s, task in enumerate(tasks_told)])
        return A2C("MlpPolicy", vec, seed=0, device="cpu")

    path = tmp_path / "s"
    assert spec_of(model({"goal": np.int64(3)}), path).task == {"goal": 3}
    assert spec_of(model({"goal": 1}, {"goal": 1}), path).task == {"goal": 1}
    assert spec_of(model({"goal": 1}, {"goal": 2}), path, task={"mixture": True}).task == {"mixture": True}
    assert spec_of(model("an object of the user's own"), path).task == {}
    told = {"goal": (1, np.int64(2)), "wind": np.array([0.5, 1.0])}
    assert spec_of(model({"goal": 1}), path, task=told).task == {"goal": [1, 2], "wind": [0.5, 1.0]}
    with pytest.raises(InvalidValue) as caught:
        spec_of(model({"goal": 1}, {"goal": 2}), path)
    assert str(caught.value) == (
        "KnownEnv: the streams of one learner have different tasks, expected one. "
        "Record one learner a task, or describe the mixture with HistoryRecorder(..., task={...})."
    )


@pytest.mark.parametrize("vec", [DummyVecEnv, lambda makes: SubprocVecEnv(makes, "fork")], ids=["here", "elsewhere"])
def test_a_known_familys_environments_tell_family_and_task(tmp_path: Any, vec: Any) -> None:
    family = tasks.family("darkroom")
    envs = vec([lambda: gym.make(family.env_id, goal=(6, 2))] * 2)
    spec = spec_of(A2C("MlpPolicy", envs, seed=0, device="cpu"), tmp_path / "s")
    envs.close()
    assert (spec.family, spec.task, spec.env_args) == ("darkroom", {"goal": [6, 2]}, {})


def test_an_environment_that_shows_less_than_its_family_does_is_told_from_the_familys_own(tmp_path: Any) -> None:
    family = tasks.family("dark-key-to-door")
    envs = DummyVecEnv([lambda: gym.make(family.env_id, key=(1, 2), door=(3, 4), size=5)])
    spec = spec_of(A2C("MlpPolicy", envs, seed=0, device="cpu"), tmp_path / "s")
    assert (spec.family, spec.task) == ("dark-key-to-door", {"key": [1, 2], "door": [3, 4]})
    assert spec.env_args == {"size": 5, "source": "plain"}


def test_a_bandit_tells_its_arms(tmp_path: Any) -> None:
    envs = DummyVecEnv([lambda: gym.make("historystore/AdversarialBandit-v0", means=(0.25, 0.5))])
    spec = spec_of(A2C("MlpPolicy", envs, seed=0, device="cpu"), tmp_path / "s")
    assert (spec.family, spec.task, spec.env_args) == ("bandit", {"means": [0.25, 0.5]}, {})


def test_other_environments_elsewhere_are_known_by_name(tmp_path: Any) -> None:
    envs = SubprocVecEnv([lambda: gym.make("CartPole-v1")] * 2, "fork")
    spec = spec_of(A2C("MlpPolicy", envs, seed=0, device="cpu"), tmp_path / "s")
    envs.close()
    assert spec.family == "CartPole-v1"


def test_a_changed_family_is_not_that_family(tmp_path: Any) -> None:
    env = gym.make("historystore/DarkRoom-v0", goal=(6, 2), max_episode_steps=7)
    spec = spec_of(A2C("MlpPolicy", env, seed=0, device="cpu"), tmp_path / "s")
    assert spec.family == "historystore/DarkRoom-v0"
    assert spec.env_args == {"goal": [6, 2], "max_episode_steps": 7}


def test_a_given_specification_is_taken_as_it_is(tmp_path: Any) -> None:
    given = LearnerSpec(family="mine", algorithm="A2C", policy="tiny", num_streams=1, num_steps=20, seed=4)
    assert spec_of(A2C("MlpPolicy", KnownEnv(), device="cpu"), tmp_path / "s", spec=given, family="mine") == given
    wrong = given.model_copy(update={"num_streams": 3})
    with pytest.raises(InvalidValue) as caught:
        spec_of(A2C("MlpPolicy", KnownEnv(), device="cpu"), tmp_path / "s", spec=wrong, family="mine")
    assert str(caught.value) == "spec: has num_streams 3, expected 1 as the model's environments. Correct it."


def test_provenance_tells_versions_and_commit(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "work"
    repository.mkdir()
    monkeypatch.chdir(repository)
    for command in ("init -q", "-c user.name=a -c user.email=a@b commit -q --allow-empty -m a"):
        subprocess.run(["git", *command.split()], check=True)
    spec_of(A2C("MlpPolicy", KnownEnv(), seed=0, device="cpu"), "s")
    (learner,) = historystore.open("s").learners
    provenance = learner.row.provenance
    assert provenance.engine == "sb3"
    assert provenance.algorithm_path == "stable_baselines3.a2c.a2c.A2C"
    assert {"gymnasium", "historystore", "numpy", "python", "stable_baselines3", "torch"} <= provenance.versions.keys()
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert provenance.git_commit == head
    assert git_commit(str(tmp_path)) is None
