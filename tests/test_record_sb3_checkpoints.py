"""Final models: stored without pickle, and loaded such that they predict and learn as the saved ones."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from known_env import KnownEnv
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv

import historystore
from historystore.checkpoints import checkpoint_path
from historystore.errors import DamagedData, InvalidValue, StoreNotFound
from historystore.sb3 import HistoryRecorder, load_checkpoint, save_checkpoint

torch.set_num_threads(1)
NOISE = NormalActionNoise(np.zeros(2), np.full(2, 0.1))
CASES: list[Any] = [
    pytest.param(PPO, "discrete", {"n_steps": 16, "batch_size": 16, "clip_range": lambda left: 0.2 * left}, id="ppo"),
    pytest.param(PPO, "box", {"n_steps": 16, "batch_size": 16, "use_sde": True}, id="ppo-sde"),
    pytest.param(A2C, "discrete", {"policy_kwargs": {"net_arch": [8], "activation_fn": torch.nn.ReLU}}, id="a2c"),
    pytest.param(DQN, "discrete", {"learning_starts": 10, "batch_size": 8, "train_freq": (2, "step")}, id="dqn"),
    pytest.param(SAC, "box", {"learning_starts": 10, "batch_size": 8}, id="sac"),
    pytest.param(TD3, "box", {"learning_starts": 10, "batch_size": 8, "action_noise": NOISE}, id="td3"),
]


class OwnPolicy(ActorCriticPolicy):
    """A policy that can be imported from this module alone."""


def recorded(path: Any, kind: Any, settings: dict[str, Any], *, actions: str = "discrete") -> Any:
    env = DummyVecEnv([lambda: KnownEnv(actions=actions)])
    model = kind("MlpPolicy", env, **{"seed": 3, "device": "cpu", **settings})
    recorder = HistoryRecorder(path, checkpoints="final")
    model.learn(120, callback=recorder)
    store = historystore.open(path)
    (name,) = {learner.row.checkpoint for learner in store.learners if learner.id == recorder.learner}
    return model, store, str(name)


def observations() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32) * 4


@pytest.mark.parametrize(("kind", "actions", "settings"), CASES)
def test_a_loaded_model_predicts_as_the_saved_one(tmp_path: Any, kind: Any, actions: str, settings: Any) -> None:
    model, store, name = recorded(tmp_path / "s", kind, settings, actions=actions)
    loaded = load_checkpoint(store, name)
    obs = observations()
    for one, other in zip(model.predict(obs, deterministic=True), loaded.predict(obs, deterministic=True), strict=True):
        np.testing.assert_array_equal(one, other)
    for saved, restored in zip(model.get_parameters().items(), loaded.get_parameters().items(), strict=True):
        assert_same(saved, restored)
    assert (loaded.num_timesteps, loaded._n_updates, loaded.seed) == (model.num_timesteps, model._n_updates, 3)
    assert type(loaded) is kind


@pytest.mark.parametrize("kind", [PPO, A2C, DQN])
def test_a_loaded_model_draws_the_same_actions(tmp_path: Any, kind: Any) -> None:
    model, store, name = recorded(tmp_path / "s", kind, {"n_steps": 16} if kind is PPO else {})
    loaded = load_checkpoint(store, name)
    obs = observations()
    drawn = []
    for one in (model, loaded):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - DQN explores by NumPy's global generator
        one.action_space.seed(0)
        drawn.append([one.predict(row)[0] for row in obs])
    np.testing.assert_array_equal(*drawn)


def test_a_loaded_model_learns_on_as_the_saved_one(tmp_path: Any) -> None:
    model, store, name = recorded(tmp_path / "s", PPO, {"n_steps": 16, "batch_size": 16})
    weights = []
    for one in (model, load_checkpoint(store, name, env=KnownEnv())):
        one.set_env(KnownEnv())
        one.set_random_seed(5)
        one.learn(64)
        weights.append(one.get_parameters())
    assert_same(*weights)


def assert_same(one: Any, other: Any) -> None:
    if torch.is_tensor(one):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_same(first, second)
    else:
        assert one == other


def test_equal_models_are_one_checkpoint_and_nothing_is_pickled(tmp_path: Any) -> None:
    model, store, name = recorded(tmp_path / "s", A2C, {})
    assert save_checkpoint(store, model) == name
    folder = checkpoint_path(store.path, name)
    assert sorted(path.name for path in folder.iterdir()) == [
        "model.json",
        "optimizers.safetensors",
        "parameters.safetensors",
    ]
    assert [path.name for path in folder.parent.iterdir()] == [name]
    with torch.no_grad():
        next(model.policy.parameters()).add_(1e-3)
    assert save_checkpoint(store, model) != name


def test_what_cannot_be_written_is_listed(tmp_path: Any) -> None:
    settings = {"n_steps": 16, "batch_size": 16, "learning_rate": lambda left: 1e-3 * left + 1e-4}
    model, store, name = recorded(tmp_path / "s", PPO, settings)
    document = json.loads((checkpoint_path(store.path, name) / "model.json").read_text())
    assert list(document["left_out"]) == ["learning_rate"]
    assert document["attributes"]["learning_rate"] == pytest.approx(1e-3 * model._current_progress_remaining + 1e-4)
    given = load_checkpoint(store, name, attributes={"learning_rate": settings["learning_rate"]})
    assert given.lr_schedule(0.5) == pytest.approx(6e-4)


def test_a_policy_of_a_script_has_to_be_given(tmp_path: Any) -> None:
    class Local(ActorCriticPolicy):
        pass

    model = A2C(Local, KnownEnv(), seed=0, device="cpu")
    model.learn(10, callback=HistoryRecorder(tmp_path / "s"))
    store = historystore.open(tmp_path / "s")
    name = save_checkpoint(store, model)
    with pytest.raises(InvalidValue, match="the policy is a class of the script that trained it"):
        load_checkpoint(store, name)
    loaded = load_checkpoint(store, name, attributes={"policy": Local})
    np.testing.assert_array_equal(
        loaded.predict(observations(), deterministic=True)[0], model.predict(observations(), deterministic=True)[0]
    )


def test_damage_is_found_and_named(tmp_path: Any) -> None:
    _, store, name = recorded(tmp_path / "s", A2C, {})
    folder = checkpoint_path(store.path, name)
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        for damaged in (whole[:-1], whole[:50] + bytes([whole[50] ^ 4]) + whole[51:]):
            file.write_bytes(damaged)
            with pytest.raises(DamagedData) as caught:
                load_checkpoint(store, name)
            assert str(caught.value) == f"{file}: does not hold what was written to it. Restore the file from a copy."
        file.write_bytes(whole)
    load_checkpoint(store, name)
    (folder / "parameters.safetensors").unlink()
    with pytest.raises(DamagedData, match=r"parameters.safetensors: cannot be read, No such file"):
        load_checkpoint(store, name)


def test_a_folder_that_a_crash_left_is_completed(tmp_path: Any) -> None:
    model, store, name = recorded(tmp_path / "s", A2C, {})
    (checkpoint_path(store.path, name) / "model.json").unlink()
    assert save_checkpoint(store, model) == name
    load_checkpoint(store, name)


def test_only_classes_that_models_are_made_of_are_loaded(tmp_path: Any) -> None:
    from historystore.sb3.plain import from_plain

    for harmful in ({"class": "subprocess:Popen"}, {"object": {"class": "threading:Thread", "state": {"dict": {}}}}):
        with pytest.raises(DamagedData, match="is not a class that models are made of"):
            from_plain(harmful)  # type: ignore[arg-type]


def test_a_class_that_cannot_be_imported_is_told_apart_from_a_harmful_one() -> None:
    from historystore.sb3.plain import from_plain

    for lost in ("nobody:Algo", "stable_baselines3:Nothing"):
        with pytest.raises(DamagedData) as caught:
            from_plain({"class": lost})
        assert str(caught.value) == (
            f"checkpoint: {lost} cannot be imported, expected a class that models are made of. Install the package it "
            "is in, or name the folder of its module in PYTHONPATH."
        )


def test_names_that_are_none(tmp_path: Any) -> None:
    _, store, _ = recorded(tmp_path / "s", A2C, {})
    with pytest.raises(InvalidValue, match=r"expected the 64 hexadecimal digits of a SHA-256, got '\.\./x'"):
        load_checkpoint(store, "../x")
    with pytest.raises(StoreNotFound, match="no such checkpoint"):
        load_checkpoint(store, "0" * 64)


def test_noise_comes_back(tmp_path: Any) -> None:
    noise = OrnsteinUhlenbeckActionNoise(np.zeros(2), np.full(2, 0.2), initial_noise=np.ones(2))
    _, store, name = recorded(tmp_path / "s", TD3, {"action_noise": noise, "learning_starts": 200}, actions="box")
    loaded = load_checkpoint(store, name)
    assert repr(loaded.action_noise) == repr(noise)
