"""Every algorithm by its name, and any class by its import path, through the one recorder."""

from __future__ import annotations

import shutil
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import historystore
from historystore.documents import LearnerSpec
from historystore.errors import InvalidValue, MissingExtra
from historystore.recording import plan_recording, record
from historystore.recording.algorithms import Algorithm, algorithm, algorithms
from historystore.recording.engine import algorithm_class, build_model
from historystore.recording.plan import spec_of_seed
from historystore.recording.signature import signature
from historystore.sb3 import HistoryRecorder, load_checkpoint
from historystore.store import Store, create
from historystore.tasks import family
from historystore.writer import StoreWriter

ON_POLICY = {"n_steps": 32, "batch_size": 32, "n_epochs": 2}
TRPO = {"n_steps": 32, "batch_size": 32}
OFF_POLICY = {"train_freq": 1, "gradient_steps": 1, "learning_starts": 20, "buffer_size": 200, "batch_size": 16}
NOISY = {**OFF_POLICY, "action_noise": 0.2}
CASES = [
    ("a2c", "CartPole-v1", {"n_steps": 16}),
    ("dqn", "CartPole-v1", {**OFF_POLICY, "target_update_interval": 50, "n_steps": 3}),
    ("ppo", "CartPole-v1", ON_POLICY),
    ("qr-dqn", "CartPole-v1", {**OFF_POLICY, "target_update_interval": 50}),
    ("recurrent-ppo", "CartPole-v1", ON_POLICY),
    ("recurrent-ppo", "darkroom", {**ON_POLICY, "policy_kwargs": {"lstm_hidden_size": 8}}),
    ("trpo", "CartPole-v1", TRPO),
    ("ddpg", "Pendulum-v1", NOISY),
    ("ppo", "Pendulum-v1", ON_POLICY),
    ("recurrent-ppo", "Pendulum-v1", ON_POLICY),
    ("recurrent-ppo", "darkroom", ON_POLICY),
    ("sac", "Pendulum-v1", OFF_POLICY),
    ("sac", "Pendulum-v1", {**OFF_POLICY, "ent_coef": 0.1}),
    ("td3", "Pendulum-v1", NOISY),
    ("trpo", "Pendulum-v1", TRPO),
]


def recorded(
    path: Path, algo: str, env: str, settings: dict, *, env_args: dict | None = None
) -> tuple[Store, LearnerSpec]:
    """Record one learner of 96 steps in this process, checkpoint and all."""
    plan = plan_recording(algo, env, 5, env_args=env_args, out=path, steps=96, streams=1, set=settings)
    spec, world = spec_of_seed(plan.template, 5), family(env, env_args)
    store = create(path, family=env, observation_space=world.observation_space, action_space=world.action_space)
    with StoreWriter(store) as writer:
        model = build_model(spec)
        model.learn(spec.num_steps, callback=HistoryRecorder(writer, spec=spec, checkpoints="final"))
    return historystore.open(path), spec


@pytest.mark.parametrize(("algo", "env", "settings"), CASES)
def test_an_algorithm_is_recorded_whole_and_its_checkpoint_acts_as_it_did(
    algo: str, env: str, settings: dict, tmp_path: Path
) -> None:
    store, spec = recorded(tmp_path / "s", algo, env, settings)
    (learner,) = store.learners
    (history,) = learner.histories
    steps = history.read(0, history.num_steps)
    assert (learner.status, history.num_steps) == ("complete", spec.num_steps)

    model = build_model(spec)
    seen: list[np.ndarray] = []
    env_step = model.get_env().step_wait

    def listened() -> object:
        result = env_step()
        seen.append(result[1].copy())
        return result

    model.get_env().step_wait = listened  # type: ignore[method-assign]
    model.learn(spec.num_steps)
    np.testing.assert_allclose(np.concatenate(seen), steps["reward"], rtol=1e-6)

    is_on_policy = "learning_starts" not in settings
    assert ("log_prob" in steps, "value" in steps) == (is_on_policy, is_on_policy)
    assert ("raw_action" in steps) == (env == "Pendulum-v1")
    updates = store.updates_table().to_pylist()
    assert len(updates) == (model._n_updates // settings.get("n_epochs", 1) if is_on_policy else model._n_updates)
    assert any(key.startswith("train/") for update in updates for key in update)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_checkpoint(store, learner.row.checkpoint)
    for name, state in model.policy.state_dict().items():
        np.testing.assert_array_equal(loaded.policy.state_dict()[name].numpy(), state.numpy(), err_msg=name)
    obs = steps["observation"][:4]
    np.testing.assert_array_equal(loaded.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0])
    loaded.set_env(build_model(spec).get_env())
    loaded.learn(64, reset_num_timesteps=False)


def test_the_raw_action_of_a_continuous_learner_is_what_was_drawn_before_it_was_clipped(tmp_path: Path) -> None:
    on, _ = recorded(tmp_path / "on", "ppo", "Pendulum-v1", ON_POLICY)
    off, _ = recorded(tmp_path / "off", "td3", "Pendulum-v1", NOISY)
    steps = on.learners[0].histories[0].read(0, 96)
    np.testing.assert_allclose(np.clip(steps["raw_action"], -2, 2), steps["action"])
    steps = off.learners[0].histories[0].read(0, 96)
    np.testing.assert_allclose(steps["raw_action"] * 2, steps["action"], rtol=1e-5, atol=1e-6)
    assert steps["raw_action"].std() > 0.05


class Counted(gym.Env):
    """Counts as its spaces do."""

    def __init__(self, *, shown: int, asked: list[int]) -> None:
        self.observation_space = gym.spaces.Dict({"at": gym.spaces.Discrete(3, start=shown)})
        self.action_space = gym.spaces.MultiDiscrete([2, 2], start=asked)


@pytest.mark.parametrize(
    ("counts", "named"),
    [
        ({"shown": -1, "asked": [0, 0]}, "observations from 0, expected such a space, got Dict('at': Discrete(3,"),
        ({"shown": 0, "asked": [0, 1]}, "actions from 0, expected such a space, got MultiDiscrete([2 2], start=[0 1])"),
    ],
)
def test_stable_baselines3_gets_no_spaces_that_do_not_count_from_0(counts: dict, named: str, tmp_path: Path) -> None:
    if "Counted-v0" not in gym.registry:
        gym.register("Counted-v0", Counted)
    plan = plan_recording("a2c", "Counted-v0", 0, env_args=counts, out=tmp_path / "s", steps=100)
    with pytest.raises(InvalidValue) as refusal:
        build_model(spec_of_seed(plan.template, 0))
    assert str(refusal.value).startswith(f"Counted-v0: Stable-Baselines3 counts {named}")


class Picture(gym.Env):
    """A square image and two counts beside it, or the image alone."""

    def __init__(self, is_alone: bool = False) -> None:
        image = gym.spaces.Box(0, 255, (40, 40, 3), np.uint8)
        counts = gym.spaces.MultiDiscrete([4, 2])
        self.is_alone = is_alone
        self.observation_space = image if is_alone else gym.spaces.Dict({"image": image, "n": counts})
        self.action_space = gym.spaces.Discrete(2)

    def _obs(self):
        image = self.np_random.integers(0, 256, (40, 40, 3)).astype(np.uint8)
        return image if self.is_alone else {"image": image, "n": self.np_random.integers([4, 2])}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._obs(), {}

    def step(self, action):
        return self._obs(), 1.0, False, False, {}


@pytest.mark.parametrize(
    ("algo", "is_alone", "policy", "settings"),
    [
        ("ppo", True, "CnnPolicy", ON_POLICY),
        ("ppo", False, "MultiInputPolicy", ON_POLICY),
        ("dqn", True, "CnnPolicy", OFF_POLICY),
        ("recurrent-ppo", True, "CnnLstmPolicy", ON_POLICY),
        ("recurrent-ppo", False, "MultiInputLstmPolicy", ON_POLICY),
    ],
)
def test_images_and_observations_of_several_parts_choose_the_policy_that_reads_them(
    algo: str, is_alone: bool, policy: str, settings: dict, tmp_path: Path
) -> None:
    if "Picture-v0" not in gym.registry:
        gym.register("Picture-v0", Picture, max_episode_steps=20)
    store, spec = recorded(tmp_path / "s", algo, "Picture-v0", settings, env_args={"is_alone": is_alone})
    assert spec.policy == policy
    steps = store.learners[0].histories[0].read(0, 96)
    images = steps["observation" if is_alone else "observation/image"]
    env = gym.make("Picture-v0", is_alone=is_alone)
    first, _ = env.reset(seed=5)
    np.testing.assert_array_equal(images[0], first if is_alone else first["image"], "channels last, as it was given")
    assert images.dtype == np.uint8


def test_small_pictures_are_read_as_vectors(tmp_path: Path) -> None:
    pytest.importorskip("minigrid")
    plan = plan_recording("ppo", "minigrid:MiniGrid-Empty-5x5-v0", "0-2", out=tmp_path, steps=100)
    assert plan.template.policy == "MlpPolicy"


def test_an_algorithm_of_a_users_own_is_recorded_by_its_import_path_with_its_bases_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(Path(__file__).parent / "own_learners.py", tmp_path / "my_learners.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    settings = {"patience": 7, **ON_POLICY}
    report = record("my_learners:Plain", "CartPole-v1", "0-1", out="s", steps=64, set=settings, workers=1)
    assert not report.failures
    spec = historystore.open("s").learners[0].spec
    assert spec.algorithm == "my_learners:Plain"
    chosen = {name: spec.hyperparameters[name] for name in ("patience", "gamma", "n_steps", "clip_range")}
    assert chosen == {"patience": 7, "gamma": 0.9, "n_steps": 32, "clip_range": 0.2}
    assert historystore.open("s").learners[0].row.provenance.algorithm_path == "my_learners.Plain"


def test_a_class_that_is_no_algorithm_is_refused_and_never_called() -> None:
    with pytest.raises(InvalidValue) as refusal:
        algorithm_class("own_learners:NoLearner")
    assert str(refusal.value) == (
        "algo: own_learners:NoLearner is no algorithm of Stable-Baselines3, expected a subclass of its BaseAlgorithm. "
        "Check the path."
    )


def test_the_refusal_of_a_class_reaches_the_user_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(Path(__file__).parent / "own_learners.py", tmp_path / "my_learners.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    with pytest.raises(InvalidValue, match=r"^algo: my_learners:NoLearner is no algorithm of Stable-Baselines3, "):
        record("my_learners:NoLearner", "CartPole-v1", 0, out="s", steps=64, policy=None)
    with pytest.raises(InvalidValue, match=r"^learner: SAC with MlpPolicy refuses these settings, AssertionError: "):
        record("sac", "CartPole-v1", 0, out="t", steps=64)


@pytest.mark.parametrize(
    ("algo", "line"),
    [
        ("nobody:Algo", "algo: nobody:Algo is in no module that can be found, got 'nobody'. Check the path."),
        ("own_learners:Nothing", "algo: own_learners has no class Nothing. Check the name."),
        ("stable_baselines3.ppo:PPO2", "algo: stable_baselines3.ppo has no class PPO2. Check the name."),
    ],
)
def test_an_import_path_that_leads_nowhere_is_one_line(algo: str, line: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        signature(algorithm(algo))
    assert str(refusal.value) == line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"class Learner(:", ", line 1: is no Python, invalid syntax"),
        (b"x = '\xe9'\n", ", line 1: is no Python, (unicode error)"),
        (b"class Learner:\0", ": is no Python, source code string cannot contain null bytes"),
    ],
)
def test_a_module_that_is_no_python_is_one_line_that_names_it(
    text: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_learners.py").write_bytes(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidValue) as refusal:
        signature(algorithm("broken_learners:Learner"))
    assert str(refusal.value).startswith(f"algo: {tmp_path / 'broken_learners.py'}{said}")
    assert str(refusal.value).endswith(". Correct it.")


def test_modules_that_import_from_each_other_and_a_class_that_is_its_own_base_are_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one_side.py").write_text("from other_side import Learner\n")
    (tmp_path / "other_side.py").write_text("from one_side import Learner\nclass Odd(Odd):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidValue, match=r"^algo: one_side has no class Learner\. Check the name\.$"):
        signature(algorithm("one_side:Learner"))
    assert signature(algorithm("other_side:Odd")).parameters == {}


def test_a_path_and_a_name_that_are_neither_are_one_line() -> None:
    for wrong in ("td4", "a b:C", "x:y.z"):
        with pytest.raises(InvalidValue) as refusal:
            algorithm(wrong)
        listed = f"expected one of {', '.join(algorithms())} or an import path such as my_package.module:MyAlgo. "
        advice = "Did you mean td3?" if wrong == "td4" else "Check the name."
        assert str(refusal.value) == f"algo: no algorithm is called {wrong!r}, {listed}{advice}"


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(MissingExtra) as refusal:
        signature(algorithm("trpo"))
    assert str(refusal.value) == (
        "algo: TRPO needs a package that is not installed. Run pip install 'historystore[contrib]'."
    )


def test_a_class_is_found_where_it_is_imported_from() -> None:
    direct = signature(Algorithm(name="x:DDPG", module="stable_baselines3.ddpg.ddpg"))
    through = signature(algorithm("ddpg"))
    assert direct.parameters == through.parameters
    assert through.policies == ("MlpPolicy", "CnnPolicy", "MultiInputPolicy"), "inherited from TD3"


def test_without_a_preset_a_number_of_steps_is_asked_for_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue) as refusal:
        plan_recording("ppo", "Acrobot-v1", 0, out=tmp_path)
    assert str(refusal.value) == (
        "--steps: how long ppo needs on Acrobot-v1 is not known here, expected a number of environment steps. Say how "
        "many a learner lives, such as --steps 100000."
    )
