"""What happens around `learn()`: other callbacks, second calls, errors, interruptions."""

import gc
import os
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from known_env import KnownEnv, assert_is_lived, assert_steps_are
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
)
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

import historystore
from historystore.documents import LearnerSpec
from historystore.errors import InvalidValue, SpaceMismatch
from historystore.sb3 import HistoryRecorder
from historystore.writer import StoreWriter

torch.set_num_threads(1)


class Quit(Exception):  # noqa: N818 - a user's name
    """What a user's own code raises."""


class Raises(BaseCallback):
    def __init__(self, at: int, error: BaseException) -> None:
        super().__init__()
        self.at, self.error = at, error

    def _on_step(self) -> bool:
        if self.n_calls == self.at:
            raise self.error
        return True


def a2c(env: Any, *, seed: int | None = 0) -> A2C:
    return A2C("MlpPolicy", env, seed=seed, device="cpu")


def hooks_left(model: Any) -> list[str]:
    env = model.get_env().unwrapped
    owners = [env, *env.envs]
    return [name for owner in owners for name in ("step", "step_async", "step_wait", "reset") if name in vars(owner)]


def statuses(path: Any) -> list[str]:
    return [learner.status for learner in historystore.open(path).learners]


def test_evaluation_environments_are_not_recorded(tmp_path: Any) -> None:
    env, test = KnownEnv(), Monitor(KnownEnv(stream=9))
    model = a2c(env)
    evaluation = EvalCallback(test, eval_freq=7, n_eval_episodes=2, verbose=0, log_path=str(tmp_path / "evaluations"))
    saving = CheckpointCallback(20, str(tmp_path / "zip"))
    model.learn(40, callback=[evaluation, HistoryRecorder(tmp_path / "s"), saving])
    assert_is_lived(tmp_path / "s", [env.log])
    assert len(test.unwrapped.log) > 20
    assert hooks_left(model) == []
    assert {path.name for path in (tmp_path / "zip").iterdir()} == {"rl_model_20_steps.zip", "rl_model_40_steps.zip"}
    assert A2C.load(tmp_path / "zip" / "rl_model_20_steps.zip").num_timesteps == 20


@pytest.mark.parametrize("is_first", [False, True])
def test_evaluating_on_the_training_environments_is_an_error(tmp_path: Any, is_first: bool) -> None:
    model = a2c(KnownEnv())
    evaluation = EvalCallback(model.get_env(), eval_freq=7, n_eval_episodes=1, verbose=0)
    recorder = HistoryRecorder(tmp_path / "s")
    with pytest.raises(InvalidValue) as caught:
        model.learn(40, callback=[evaluation, recorder] if is_first else [recorder, evaluation])
    assert str(caught.value) == (
        "HistoryRecorder: the training environments were reset by something other than the training, expected one "
        "step for each call of the recorder. Give EvalCallback, or whatever else acts while the learner learns, "
        "environments of its own; pass the recorder to learn() itself or in its list, not inside another callback."
    )
    recorder.close()
    (learner,) = historystore.open(tmp_path / "s").learners
    assert learner.status == "partial"
    assert learner.histories[0].num_steps == (6 if is_first else 7)


def test_a_second_learn_that_goes_on_is_a_second_learner(tmp_path: Any) -> None:
    env = KnownEnv()
    model, recorder = a2c(env), HistoryRecorder(tmp_path / "s")
    model.learn(25, callback=recorder)
    first = recorder.learner
    model.learn(30, callback=recorder, reset_num_timesteps=False)
    store = historystore.open(tmp_path / "s")
    by_id = {learner.id: learner for learner in store.learners}
    one, two = by_id[str(first)], by_id[str(recorder.learner)]
    assert [one.spec.num_steps, two.spec.num_steps] == [25, 30]
    assert "starts_from" not in one.spec.hyperparameters
    assert len(two.spec.hyperparameters["starts_from"]) == 64
    assert_steps_are(one.histories[0], env.log[:25], has_both_flags=True)
    assert_steps_are(two.histories[0], env.log[25:], has_both_flags=True)
    assert two.histories[0].read(0, 1)["observation"][0, 2] != 0, "the second begins in the middle of an episode"
    assert two.updates().num_rows == 6


def test_one_recorder_serves_many_models(tmp_path: Any) -> None:
    recorder = HistoryRecorder(tmp_path / "s")
    for seed in range(3):
        a2c(KnownEnv(), seed=seed).learn(20, callback=recorder)
    assert statuses(tmp_path / "s") == ["complete"] * 3


def test_runs_without_a_seed_are_learners_of_their_own(tmp_path: Any) -> None:
    for _ in range(2):
        a2c(KnownEnv(), seed=None).learn(20, callback=HistoryRecorder(tmp_path / "s"))
    first, second = historystore.open(tmp_path / "s").learners
    assert first.spec.seed is None
    assert first.spec.hyperparameters["unseeded_run"] != second.spec.hyperparameters["unseeded_run"]


def test_an_early_end_is_partial(tmp_path: Any) -> None:
    env = KnownEnv()
    a2c(env).learn(100, callback=[HistoryRecorder(tmp_path / "s"), StopTrainingOnMaxEpisodes(3)])
    learner = assert_is_lived(tmp_path / "s", [env.log])
    assert (learner.status, learner.row.error) == ("partial", "learn() ended after 13 of 100 steps")


def test_the_context_manager_records_why_learning_failed(tmp_path: Any) -> None:
    env = KnownEnv()
    model = a2c(env)
    with pytest.raises(Quit), HistoryRecorder(tmp_path / "s") as recorder:
        model.learn(100, callback=[recorder, Raises(at=33, error=Quit("no more"))])
    learner = assert_is_lived(tmp_path / "s", [env.log])
    assert (learner.status, learner.row.error) == ("failed", "Quit: no more")
    assert learner.histories[0].num_steps == 33
    assert learner.updates().num_rows == 6
    assert hooks_left(model) == []


def test_closing_after_an_interruption_seals_what_there_is(tmp_path: Any) -> None:
    env = KnownEnv()
    model, recorder = a2c(env), HistoryRecorder(tmp_path / "s")
    with pytest.raises(KeyboardInterrupt):
        model.learn(100, callback=[recorder, Raises(at=33, error=KeyboardInterrupt())])
    recorder.close()
    recorder.close()
    assert assert_is_lived(tmp_path / "s", [env.log]).status == "partial"
    assert hooks_left(model) == []
    model.learn(20)


def test_a_recorder_that_is_gone_has_sealed(tmp_path: Any) -> None:
    env = KnownEnv()
    model = a2c(env)
    with pytest.raises(Quit):
        model.learn(100, callback=[HistoryRecorder(tmp_path / "s"), Raises(at=33, error=Quit())])
    gc.collect()
    assert assert_is_lived(tmp_path / "s", [env.log]).status == "partial"
    assert hooks_left(model) == []


def test_environments_of_an_abandoned_recorder_can_be_recorded_again(tmp_path: Any) -> None:
    env = KnownEnv()
    model, abandoned = a2c(env), HistoryRecorder(tmp_path / "one")
    with pytest.raises(Quit):
        model.learn(100, callback=[abandoned, Raises(at=33, error=Quit())])
    a2c(model.get_env(), seed=5).learn(20, callback=HistoryRecorder(tmp_path / "two"))
    assert_is_lived(tmp_path / "two", [env.log[33:]])
    abandoned.close()
    assert_is_lived(tmp_path / "one", [env.log[:33]])


def test_two_recorders_record_the_same(tmp_path: Any) -> None:
    env = KnownEnv()
    a2c(env).learn(20, callback=[HistoryRecorder(tmp_path / "one"), HistoryRecorder(tmp_path / "two")])
    one, two = assert_is_lived(tmp_path / "one", [env.log]), assert_is_lived(tmp_path / "two", [env.log])
    assert one.digest == two.digest


def test_a_script_that_is_interrupted_keeps_its_steps(tmp_path: Any) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal
            from known_env import KnownEnv
            from stable_baselines3 import PPO
            from stable_baselines3.common.callbacks import ConvertCallback
            from historystore.sb3 import HistoryRecorder

            def stop(locals_, globals_):
                if locals_["self"].num_timesteps == 700:
                    os.kill(os.getpid(), signal.SIGINT)
                return True

            model = PPO("MlpPolicy", KnownEnv(), seed=0, n_steps=128, device="cpu")
            model.learn(10_000, callback=[HistoryRecorder("my-store"), ConvertCallback(stop)])
            """
        )
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    run = subprocess.run([sys.executable, script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert run.stderr.rstrip().endswith("KeyboardInterrupt")
    (learner,) = historystore.open(tmp_path / "my-store").learners
    assert learner.status == "partial"
    assert 699 <= learner.histories[0].num_steps <= 702
    assert learner.updates().num_rows == 5


def test_a_writer_that_was_handed_in_stays_open(tmp_path: Any) -> None:
    env = KnownEnv()
    store = historystore.create(
        tmp_path / "s", family="known", observation_space=env.observation_space, action_space=env.action_space
    )
    with StoreWriter(store) as writer:
        for seed in range(2):
            a2c(KnownEnv(), seed=seed).learn(20, callback=HistoryRecorder(writer))
        model = a2c(KnownEnv(), seed=2)
        recorder = HistoryRecorder(writer)
        with pytest.raises(Quit):
            model.learn(20, callback=[recorder, Raises(at=9, error=Quit("no more"))])
        recorder.close(status="failed", error="Quit: no more")
    assert sorted(statuses(tmp_path / "s")) == ["complete", "complete", "failed"]
    assert len(list((tmp_path / "s" / "shards").iterdir())) == 1
    assert {learner.spec.family for learner in historystore.open(tmp_path / "s").learners} == {"known"}


def test_blocks_and_flushes_change_nothing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(name: str) -> str:
        env = KnownEnv()
        A2C("MlpPolicy", env, seed=0, n_steps=60, device="cpu").learn(540, callback=HistoryRecorder(tmp_path / name))
        return str(assert_is_lived(tmp_path / name, [env.log]).digest)

    whole = digest("whole")
    monkeypatch.setattr("historystore.sb3.recording._FLUSH_S", 0.0)
    assert digest("step by step") == whole
    monkeypatch.setattr("historystore.sb3.recording._FLUSH_S", 1e9)
    monkeypatch.setattr("historystore.sb3.block._MOST_ROWS", 7)
    assert digest("by sevens") == whole


def test_a_recorder_that_misses_steps_says_so(tmp_path: Any) -> None:
    with pytest.raises(InvalidValue, match="took a step that the training did not report"):
        a2c(KnownEnv()).learn(40, callback=EveryNTimesteps(10, HistoryRecorder(tmp_path / "s")))


def test_a_store_of_other_spaces_is_refused_before_learning(tmp_path: Any) -> None:
    a2c(KnownEnv()).learn(20, callback=HistoryRecorder(tmp_path / "s"))
    env = KnownEnv(actions="box")
    with pytest.raises(SpaceMismatch):
        a2c(env).learn(20, callback=HistoryRecorder(tmp_path / "s"))
    assert env.log == []


def test_bad_arguments_are_refused_at_once(tmp_path: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        HistoryRecorder(tmp_path / "s", fields=["log_prob", "advantage"])
    assert str(caught.value) == (
        "fields: no step field is called 'advantage', expected some of log_prob, value, raw_action, "
        "source_observation, info/<key> (observation, action, reward, terminated, truncated are always recorded). "
        "Check the name."
    )
    with pytest.raises(
        InvalidValue, match="checkpoints: expected 'final' or 'every=N' with a whole number of steps, got 'all'"
    ):
        HistoryRecorder(tmp_path / "s", checkpoints="all")
    with pytest.raises(InvalidValue, match="info/colour is missing at step 1, expected it in the info of every step"):
        a2c(KnownEnv()).learn(20, callback=HistoryRecorder(tmp_path / "s", fields=["info/colour"]))


def test_an_episode_without_its_last_observation_is_an_error(tmp_path: Any) -> None:
    class Forgetful(DummyVecEnv):
        def step_wait(self) -> Any:
            obs, rewards, dones, infos = super().step_wait()
            return obs, rewards, dones, [{"TimeLimit.truncated": info["TimeLimit.truncated"]} for info in infos]

    with pytest.raises(InvalidValue, match=r"Forgetful: an episode ended without infos\[i\]\['terminal_observation'\]"):
        PPO("MlpPolicy", Forgetful([KnownEnv]), n_steps=16, device="cpu").learn(16, callback=HistoryRecorder(tmp_path))


def test_saving_a_model_while_it_is_recorded(tmp_path: Any) -> None:
    class Saves(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls == 17:
                self.model.save(tmp_path / "model")
            return True

    model = DQN("MlpPolicy", KnownEnv(), seed=0, learning_starts=5, batch_size=8, device="cpu")
    model.learn(40, callback=[Saves(), HistoryRecorder(tmp_path / "s")])
    loaded = DQN.load(tmp_path / "model", env=KnownEnv())
    assert loaded.num_timesteps == 17
    assert hooks_left(loaded) == []
    obs = np.zeros((5, 3), dtype=np.float32)
    assert loaded.predict(obs, deterministic=True)[0].shape == (5,)


def test_a_recorder_lets_go_of_the_environments_it_has_recorded(tmp_path: Any) -> None:
    env = KnownEnv()
    kept, recorder = weakref.ref(env), HistoryRecorder(tmp_path / "s")
    a2c(env).learn(10, callback=recorder)
    a2c(KnownEnv(), seed=1).learn(10, callback=recorder)
    del env
    gc.collect()
    assert kept() is None


def test_the_store_of_a_given_specification_is_of_its_family(tmp_path: Any) -> None:
    spec = LearnerSpec(family="mine", algorithm="A2C", policy="MlpPolicy", num_streams=1, num_steps=10)
    a2c(KnownEnv()).learn(10, callback=HistoryRecorder(tmp_path / "s", spec=spec))
    assert historystore.open(tmp_path / "s").document.family == "mine"


class Informed(KnownEnv):
    """An environment whose info changes its kind at the fourth step."""

    def __init__(self, *infos: Any) -> None:
        super().__init__()
        self.infos = infos

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, _ = super().step(action)
        return obs, reward, terminated, truncated, {"speed": self.infos[len(self.log) > 3]}


@pytest.mark.parametrize(
    ("infos", "message"),
    [
        ((0, 0.5), "info/speed is float64 of shape () at step 4, expected int64 of shape () as at the first step"),
        ((True, 2), "info/speed is int64 of shape () at step 4, expected bool of shape () as at the first step"),
        ((np.zeros(2), 0.5), "info/speed is float64 of shape () at step 4, expected float64 of shape (2,)"),
        (("fast", "slow"), "info/speed is no number at step 1, expected numbers or flags of one shape"),
    ],
)
def test_an_info_that_changes_its_kind_is_an_error_and_never_cut(tmp_path: Any, infos: Any, message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        a2c(Informed(*infos)).learn(20, callback=HistoryRecorder(tmp_path / "s", fields=["info/speed"]))
    assert message in str(caught.value)


def test_an_info_that_fits_what_came_first_is_kept(tmp_path: Any) -> None:
    a2c(Informed(0.5, 3)).learn(10, callback=HistoryRecorder(tmp_path / "s", fields=["info/speed"]))
    speed = historystore.open(tmp_path / "s").learners[0].histories[0].read()["info/speed"]
    assert speed.tolist() == [0.5] * 3 + [3.0] * 7
