"""Behind every wrapper of Stable-Baselines3 the environments' own layout is recorded."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from known_env import KnownEnv, assert_is_lived
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecEnvWrapper,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

import historystore
from historystore import tasks
from historystore.errors import InvalidValue
from historystore.recording.vec_env import BatchedVecEnv
from historystore.sb3 import HistoryRecorder

torch.set_num_threads(1)
Layer = Callable[[Any], Any]
STACKS: dict[str, tuple[str, list[Layer]]] = {
    "bare": ("vector", []),
    "normalized": ("vector", [VecNormalize]),
    "monitored, checked, normalized, stacked": (
        "vector",
        [VecMonitor, VecCheckNan, VecNormalize, lambda env: VecFrameStack(env, 3)],
    ),
    "stacked, normalized": ("vector", [lambda env: VecFrameStack(env, 2), VecNormalize]),
    "transposed": ("image", [VecTransposeImage]),
    "stacked and transposed": ("image", [lambda env: VecFrameStack(env, 2), VecTransposeImage]),
    "transposed and stacked": ("image", [VecTransposeImage, lambda env: VecFrameStack(env, 2)]),
    "numbers": ("discrete", []),
}
DICT_STACKS: dict[str, list[Layer]] = {
    "bare": [],
    "normalized": [lambda env: VecNormalize(env, norm_obs_keys=["vector"])],
    "transposed": [VecTransposeImage],
    "one key": [lambda env: VecExtractDictObs(env, "vector")],
}
TINY = {"features_extractor_kwargs": {"features_dim": 8}}


class Doubled(VecEnvWrapper):
    """Some wrapper that nobody knows."""

    def reset(self) -> Any:
        return 2 * self.venv.reset()

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = self.venv.step_wait()
        return 2 * obs, rewards, dones, infos


def learn(path: Any, vec: Any, policy: str, *, kind: Any = A2C, steps: int = 40, **options: Any) -> None:
    settings = {"n_steps": 20, "batch_size": 20} if kind is PPO else {}
    kwargs = TINY if policy == "CnnPolicy" else {}
    model = kind(policy, vec, seed=0, device="cpu", policy_kwargs=kwargs, **settings)
    model.learn(steps, callback=HistoryRecorder(path, **options))


def logs_of(vec: Any) -> Any:
    return vec.unwrapped.env_method("lived")


def wrapped(vec: Any, layers: list[Layer]) -> Any:
    for layer in layers:
        vec = layer(vec)
    return vec


@pytest.mark.parametrize("name", STACKS)
def test_wrapped_environments_in_this_process(tmp_path: Any, name: str) -> None:
    layout, layers = STACKS[name]
    vec = wrapped(DummyVecEnv([lambda s=s: KnownEnv(s, layout=layout) for s in range(2)]), layers)
    learn(tmp_path / "s", vec, "CnnPolicy" if layout == "image" else "MlpPolicy")
    assert_is_lived(tmp_path / "s", logs_of(vec))


@pytest.mark.parametrize("name", DICT_STACKS)
def test_dictionaries_of_observations(tmp_path: Any, name: str) -> None:
    vec = wrapped(DummyVecEnv([lambda s=s: KnownEnv(s, layout="dict") for s in range(2)]), DICT_STACKS[name])
    learn(tmp_path / "s", vec, "MlpPolicy" if name == "one key" else "MultiInputPolicy", steps=20)
    assert_is_lived(tmp_path / "s", logs_of(vec))


@pytest.mark.parametrize("name", STACKS)
def test_wrapped_environments_in_other_processes(tmp_path: Any, name: str) -> None:
    layout, layers = STACKS[name]
    vec = wrapped(SubprocVecEnv([lambda s=s: KnownEnv(s, layout=layout) for s in range(2)], "fork"), layers)
    try:
        learn(tmp_path / "s", vec, "CnnPolicy" if layout == "image" else "MlpPolicy")
        assert_is_lived(tmp_path / "s", logs_of(vec), has_both_flags=False)
    finally:
        vec.close()


def test_dictionaries_in_other_processes(tmp_path: Any) -> None:
    vec = VecTransposeImage(SubprocVecEnv([lambda s=s: KnownEnv(s, layout="dict") for s in range(2)], "fork"))
    try:
        learn(tmp_path / "s", vec, "MultiInputPolicy", steps=20)
        assert_is_lived(tmp_path / "s", logs_of(vec), has_both_flags=False)
    finally:
        vec.close()


def test_an_unknown_wrapper_around_other_processes_is_refused_in_one_line(tmp_path: Any) -> None:
    vec = Doubled(SubprocVecEnv([KnownEnv], "fork"))
    try:
        with pytest.raises(InvalidValue) as caught:
            learn(tmp_path / "s", vec, "MlpPolicy")
    finally:
        vec.close()
    assert str(caught.value) == (
        "Doubled: cannot tell the first observation of SubprocVecEnv behind it, expected one of VecCheckNan, "
        "VecFrameStack, VecMonitor, VecNormalize, VecTransposeImage, VecVideoRecorder. Use DummyVecEnv for the "
        "environments, or make the wrapper a gymnasium.Wrapper."
    )


def test_an_unknown_wrapper_in_this_process_does_no_harm(tmp_path: Any) -> None:
    vec = Doubled(DummyVecEnv([KnownEnv]))
    learn(tmp_path / "s", vec, "MlpPolicy")
    assert_is_lived(tmp_path / "s", logs_of(vec))


class InPlace(VecEnvWrapper):
    """A wrapper that spoils the arrays it is handed."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions.copy()
        self.venv.step_async(self.actions)

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = self.venv.step_wait()
        spoilt = [
            obs,
            rewards,
            self.actions,
            *(i["terminal_observation"] for i in infos if "terminal_observation" in i),
        ]
        for array in spoilt:
            array += 1
        return obs, rewards, dones, infos


def test_a_wrapper_that_works_in_place_spoils_nothing(tmp_path: Any) -> None:
    vec = InPlace(DummyVecEnv([lambda s=s: KnownEnv(s) for s in range(2)]))
    learn(tmp_path / "s", vec, "MlpPolicy")
    assert_is_lived(tmp_path / "s", logs_of(vec))


@pytest.mark.parametrize("actions", ["multi", "binary"])
def test_lists_of_discrete_actions(tmp_path: Any, actions: str) -> None:
    env = KnownEnv(actions=actions)
    learn(tmp_path / "s", env, "MlpPolicy")
    learner = assert_is_lived(tmp_path / "s", [env.log])
    assert learner.histories[0].read(0, 1)["action"].dtype == env.action_space.dtype


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_one_environment_that_is_not_vectorised(tmp_path: Any, kind: Any) -> None:
    env = KnownEnv()
    learn(tmp_path / "s", Monitor(env), "MlpPolicy", kind=kind)
    assert_is_lived(tmp_path / "s", [env.log])


@pytest.mark.parametrize("name", ["darkroom", "darkroom-hard"])
def test_batched_environments_and_their_twins_have_one_history(tmp_path: Any, name: str) -> None:
    family = tasks.family(name)
    task = {"goal": [5, 4]}
    learn(tmp_path / "batched", BatchedVecEnv(family.make_batched([task] * 3)), "MlpPolicy", task=task, family=name)
    learn(tmp_path / "single", DummyVecEnv([lambda: family.make(task)] * 3), "MlpPolicy")
    batched, single = (historystore.open(tmp_path / place).learners[0] for place in ("batched", "single"))
    assert batched.spec == single.spec
    assert single.row.provenance == batched.row.provenance
    assert single.row.provenance.best_return == family.best_return(task)
    for one, other in zip(batched.histories, single.histories, strict=True):
        first, second = one.read(0, one.num_steps), other.read(0, other.num_steps)
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[field], second[field]) for field in first)
        following = one.next_observations(0, one.num_steps), other.next_observations(0, other.num_steps)
        np.testing.assert_array_equal(following[0]["observation"], following[1]["observation"])


def test_what_only_the_learner_saw_and_infos_on_request(tmp_path: Any) -> None:
    vec: Any = VecFrameStack(DummyVecEnv([lambda s=s: KnownEnv(s) for s in range(2)]), 2)
    fields = ["source_observation", "info/t", "value"]
    learn(tmp_path / "s", vec, "MlpPolicy", fields=fields)
    learner = assert_is_lived(tmp_path / "s", logs_of(vec))
    for history in learner.histories:
        read = history.read(0, history.num_steps)
        assert "log_prob" not in read
        np.testing.assert_array_equal(read["source_observation"][:, 3:], read["observation"])
        same_episode = read["observation"][1:, 2] > 0
        np.testing.assert_array_equal(
            read["source_observation"][1:, :3][same_episode], read["observation"][:-1][same_episode]
        )
        np.testing.assert_array_equal(read["info/t"], read["observation"][:, 2] + 1)


class WholeAtFirst(KnownEnv):
    """An environment of numbers whose first ones happen to be whole."""

    def reset(self, **options: Any) -> Any:
        obs, info = super().reset(**options)
        return obs.astype(np.int64), info

    def _shown(self) -> Any:
        return super()._shown() + np.float32(self.t / 4)

    def step(self, action: Any) -> Any:
        obs, _, terminated, truncated, info = super().step(action)
        reward = 0 if len(self.log) % 4 < 3 else 0.5
        self.log[-1] = replace(self.log[-1], reward=float(reward))
        return obs, reward, terminated, truncated, info


def test_numbers_of_other_processes_that_are_whole_at_first_are_not_cut(tmp_path: Any) -> None:
    vec = SubprocVecEnv([lambda s=s: WholeAtFirst(s) for s in range(2)], "fork")
    try:
        learn(tmp_path / "s", vec, "MlpPolicy")
        logs = logs_of(vec)
    finally:
        vec.close()
    for history, log in zip(historystore.open(tmp_path / "s").learners[0].histories, logs, strict=True):
        read = history.read()
        np.testing.assert_array_equal(read["reward"], [step.reward for step in log])
        np.testing.assert_array_equal(read["observation"], [step.obs for step in log])
        assert 0.5 in read["reward"]
