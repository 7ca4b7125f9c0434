"""`--engine lockstep`: recording, checkpoints, refusals, and learners that fail."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import historystore
from historystore import tasks
from historystore.documents import LearnerSpec
from historystore.errors import InvalidValue
from historystore.lockstep.engine import LockstepEngine
from historystore.recording import plan_recording, record
from historystore.recording.engines import Interrupted, Session, engine_of
from historystore.recording.plan import spec_of_seed
from historystore.sb3 import load_checkpoint
from historystore.writer import StoreWriter

TINY: dict[str, Any] = {
    "steps": 400,
    "streams": 2,
    "engine": "lockstep",
    "set": {"n_steps": 50, "batch_size": 50, "n_epochs": 1},
}
HYPERPARAMETERS = {
    "ppo": TINY["set"],
    "a2c": {"n_steps": 10},
    "dqn": {"learning_starts": 20, "train_freq": 4, "batch_size": 16, "target_update_interval": 40},
}
ENV_FIELDS = {"observation", "action", "reward", "terminated", "truncated"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Six tiny learners in one worker, and their report."""
    out = tmp_path_factory.mktemp("lockstep") / "store"
    return out, record("ppo", "darkroom", "0-5", out=out, workers=1, checkpoints="final", **TINY)


def test_a_recording_holds_every_learner_whole_and_verifies(undisturbed):
    path, report = undisturbed
    store = historystore.open(path)
    assert report.failures == ()
    assert (report.learners.complete, report.num_steps) == (6, 2400)
    assert {learner.spec.hyperparameters["engine"] for learner in store.learners} == {"lockstep"}
    provenance = store.learners[0].row.provenance
    assert (provenance.engine, provenance.engine_version) == ("lockstep", metadata.version("historystore"))
    assert provenance.algorithm_path == "stable_baselines3.ppo.ppo.PPO"
    assert provenance.best_return > provenance.random_return
    answer = subprocess.run([sys.executable, "-m", "hist_cli", "verify", path], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout


def test_a_history_is_what_its_environment_lives(undisturbed):
    path, _ = undisturbed
    for learner in historystore.open(path).learners:
        env = tasks.family("darkroom").make_batched([learner.spec.task] * 2)
        shown = env.reset()
        histories = [history.read(0, 200) for history in learner.histories]
        for step in range(200):
            assert np.array_equal(shown, [history["observation"][step] for history in histories])
            shown, reward, _, truncated = env.step(np.array([history["action"][step] for history in histories]))
            assert np.array_equal(reward, [history["reward"][step] for history in histories])
            assert np.array_equal(truncated, [history["truncated"][step] for history in histories])
            shown = env.reset(truncated) if truncated.any() else shown


def test_an_update_holds_what_stable_baselines3_logs(undisturbed, tmp_path):
    path, _ = undisturbed
    settings = {key: value for key, value in TINY.items() if key != "engine"}
    record("ppo", "darkroom", "0", out=tmp_path / "sb3", workers=1, **settings)
    theirs, ours = (historystore.open(store).updates_table() for store in (tmp_path / "sb3", path))
    assert set(ours.column_names) == set(theirs.column_names)
    first = ours["learner"][0]
    steps = [step for learner, step in zip(ours["learner"], ours["step"], strict=True) if learner == first]
    assert [step.as_py() for step in steps] == [step.as_py() for step in theirs["step"]] == [50, 100, 150, 200]


@pytest.mark.parametrize("algo", HYPERPARAMETERS)
def test_a_checkpoint_becomes_a_model_that_can_go_on_learning(algo, tmp_path):
    settings = TINY | {"set": HYPERPARAMETERS[algo]}
    record(algo, "darkroom", "3,4", out=tmp_path / "store", workers=1, checkpoints="final", **settings)
    store = historystore.open(tmp_path / "store")
    for learner in store.learners:
        model: Any = load_checkpoint(store, learner.row.checkpoint)
        assert (model.num_timesteps, model.seed) == (400, learner.spec.seed)
        assert model._n_updates == {"ppo": 4, "a2c": 20, "dqn": 48}[algo]
        if algo == "dqn":
            assert (model._n_calls, model._episode_num) == (200, 20)
            assert model.exploration_rate == pytest.approx(0.01)
        assert set(model.policy.optimizer.state_dict()["state"]) == set(range(len(list(_learned(model)))))


def _learned(model: Any) -> Any:
    return model.policy.q_net.parameters() if hasattr(model, "q_net") else model.policy.parameters()


@pytest.mark.parametrize("algo", HYPERPARAMETERS)
def test_a_checkpoint_acts_as_a_learner_that_lives_on_acts_next(algo, tmp_path):
    exploring = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0} if algo == "dqn" else {}
    settings = TINY | {"set": HYPERPARAMETERS[algo] | exploring | {"learning_rate": 3e-3}}
    num_next = {"ppo": 50, "a2c": 10, "dqn": 4}[algo]  # steps until the next update
    out = tmp_path / "store"
    record(algo, "darkroom", "0-2", out=out, workers=1, checkpoints="final", **settings)
    record(algo, "darkroom", "0-2", out=out, workers=1, **settings | {"steps": 400 + 2 * num_next})
    store = historystore.open(out)
    learners = {(learner.spec.seed, learner.spec.num_steps): learner for learner in store.learners}
    for seed in range(3):
        ended, lived_on = learners[seed, 400], learners[seed, 400 + 2 * num_next]
        model: Any = load_checkpoint(store, ended.row.checkpoint)
        for stream in range(2):
            past, longer = (learner.histories[stream].read(0, 200) for learner in (ended, lived_on))
            assert all(np.array_equal(past[name], longer[name]) for name in past)
            following = lived_on.histories[stream].read(200, 200 + num_next)
            _assert_acts_so(model, following, algo)


def _assert_acts_so(model: Any, steps: dict[str, np.ndarray], algo: str) -> None:
    """Hold what a model makes of observations against what the learner recorded."""
    if algo == "dqn":
        greedy, _ = model.predict(steps["observation"], deterministic=True)
        np.testing.assert_array_equal(steps["action"], greedy)
        return
    with torch.no_grad():
        values, log_probs, _ = model.policy.evaluate_actions(
            torch.as_tensor(steps["observation"]), torch.as_tensor(steps["action"])
        )
    np.testing.assert_allclose(steps["log_prob"], log_probs.numpy(), atol=2e-6)
    np.testing.assert_allclose(steps["value"], values.flatten().numpy(), atol=2e-6)


def test_workers_groups_and_seals_change_no_digest(undisturbed, tmp_path):
    _, alone = undisturbed
    out = tmp_path / "store"
    record("ppo", "darkroom", "4", out=out, workers=1, seal_s=0.01, **TINY)
    report = record("ppo", "darkroom", "0-5", out=out, workers=2, **TINY)
    assert (report.num_skipped, report.num_added) == (1, 5)
    assert report.digest == alone.digest


def test_killed_and_started_again_a_recording_ends_with_the_digest_of_an_undisturbed_one(tmp_path):
    def command(out: Path, *options: str) -> list[str]:
        settings = ["--engine", "lockstep", "--steps", "6000", "--set", "n_steps=200", "--set", "batch_size=50"]
        where = ["record", "--algo", "ppo", "--env", "darkroom", "--seeds", "0-19", "--out", str(out)]
        return [sys.executable, "-m", "hist_cli", *where, *settings, "--workers", "1", "--json", *options]

    out = tmp_path / "store"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(out, "--seal-s", "0.2"), start_new_session=True, **pipes)
    for line in process.stdout:
        if json.loads(line).get("num_steps", 0):
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    assert "complete" not in historystore.open(out).status_of().values()
    report = json.loads(
        subprocess.run(command(out), capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    )
    again = subprocess.run(command(tmp_path / "other"), capture_output=True, text=True, check=True)
    assert report["learners"] == {"complete": 20, "partial": 0, "failed": 0}
    assert report["digest"] == json.loads(again.stdout.splitlines()[-1])["digest"]


def session_in(path: Path, *, watch: Any = lambda _: None, fields: Any = None) -> Any:
    plan = plan_recording("ppo", "darkroom", "0-4", out=path, **TINY)
    family = tasks.family("darkroom")
    spaces = {"observation_space": family.observation_space, "action_space": family.action_space}
    store = historystore.create(path, family="darkroom", **spaces)
    writer = StoreWriter(store)
    specs = [spec_of_seed(plan.template, seed) for seed in plan.seeds]
    return specs, Session(writer=writer, fields=fields, checkpoints=None, watch=watch)


def test_an_interrupted_group_closes_its_learners_as_partial(tmp_path):
    def watch(num_steps: int) -> None:
        if num_steps > 1200:
            raise Interrupted

    specs, session = session_in(tmp_path / "store", watch=watch)
    ends = list(LockstepEngine().learn(specs, session))
    session.writer.close()
    assert {(end.status, end.num_steps) for end in ends} == {("partial", 200)}
    store = historystore.open(tmp_path / "store")
    assert {learner.row.num_steps for learner in store.learners} == {(100, 100)}


def test_a_learner_that_diverges_fails_and_the_others_are_as_without_it(undisturbed, tmp_path, monkeypatch):
    path, _ = undisturbed
    from historystore.lockstep import on_policy_run

    def poisoned(model: Any, seeds: Any) -> Any:
        population = population_of(model, seeds)
        population.rows[seeds.index(2)] = torch.nan
        return population

    population_of = on_policy_run.population_of
    monkeypatch.setattr(on_policy_run, "population_of", poisoned)
    specs, session = session_in(tmp_path / "store")
    ends = {end.seed: end for end in LockstepEngine().learn(specs, session)}
    session.writer.close()
    assert {seed: end.status for seed, end in ends.items()} == {
        seed: "failed" if seed == 2 else "complete" for seed in range(5)
    }
    assert ends[2].error == ("FloatingPointError: a parameter is not finite after 50 steps. Lower the learning rate.")
    undisturbed_rows = {learner.spec.seed: learner.row.digest for learner in historystore.open(path).learners}
    for learner in historystore.open(tmp_path / "store").learners:
        assert learner.spec.seed == 2 or learner.row.digest == undisturbed_rows[learner.spec.seed]


def test_a_task_that_raises_fails_alone(tmp_path):
    specs, session = session_in(tmp_path / "store")
    specs[3] = specs[3].model_copy(update={"task": {"goal": [99, 99]}})
    ends = {end.seed: end for end in LockstepEngine().learn(specs, session)}
    session.writer.close()
    assert {seed for seed, end in ends.items() if end.status == "failed"} == {3}
    assert {seed for seed, end in ends.items() if end.status == "complete"} == {0, 1, 2, 4}
    assert "99" in ends[3].error


@pytest.mark.parametrize("seal_s", [60.0, 0.01])
def test_a_learner_that_raises_and_one_that_diverges_fail_once_each_and_the_others_are_complete(seal_s, tmp_path):
    report = record("ppo", "frail_paths:Paths", "0-5", out=tmp_path / "store", workers=1, seal_s=seal_s, **TINY)
    assert (report.learners.complete, report.learners.failed, report.learners.partial) == (4, 2, 0)
    failed = {learner.spec.task["fate"]: learner for learner in historystore.open(tmp_path / "store").learners}
    raised, diverged = failed["raises"].row, failed["unbounded"].row
    assert (raised.num_steps, raised.error) == ((50, 50), "ValueError: the path is washed away")
    assert diverged.error == "FloatingPointError: a parameter is not finite after 50 steps. Lower the learning rate."
    assert np.isposinf(failed["unbounded"].histories[0].read(0, 50)["reward"]).sum() == 10
    told = sorted((failure.seed, failure.error) for failure in report.failures)
    assert told == sorted((row.spec.seed, row.error) for row in (raised, diverged))


def test_a_huge_learning_rate_breaks_its_own_learners_and_no_others_of_the_store(undisturbed, tmp_path):
    path, _ = undisturbed
    record("ppo", "darkroom", "0-5", out=tmp_path / "store", workers=1, **TINY)
    huge = TINY | {"set": TINY["set"] | {"learning_rate": 1e38}}
    report = record("ppo", "darkroom", "0-5", out=tmp_path / "store", workers=1, **huge)
    line = r"FloatingPointError: a parameter is not finite after \d+ steps\. Lower the learning rate\."
    assert [re.fullmatch(line, failure.error) is not None for failure in report.failures] == [True] * 6
    complete = [each.row.digest for each in historystore.open(tmp_path / "store").learners if each.status == "complete"]
    assert sorted(complete) == sorted(learner.row.digest for learner in historystore.open(path).learners)


def test_fields_are_left_out_where_asked(tmp_path):
    specs, session = session_in(tmp_path / "store", fields=("value",))
    list(LockstepEngine().learn(specs[:2], session))
    session.writer.close()
    history = historystore.open(tmp_path / "store").learners[0].histories[0]
    assert set(history.read(0, 3)) == ENV_FIELDS | {"value"}


def test_what_the_source_alone_sees_is_what_it_learns_from_and_is_recorded(tmp_path):
    family = tasks.family("dark-key-to-door")
    settings = TINY | {"steps": 600}
    record("ppo", "dark-key-to-door", "0-2", out=tmp_path / "store", workers=1, checkpoints="final", **settings)
    store = historystore.open(tmp_path / "store")
    history = store.learners[0].histories[0].read(0, 100)
    assert family.make_batched([store.learners[0].spec.task]).source_observation_space is not None
    assert history["source_observation"].shape[1] > history["observation"].shape[1]
    model: Any = load_checkpoint(store, store.learners[0].row.checkpoint)
    assert model.observation_space.shape == history["source_observation"].shape[1:]


REFUSED = {
    "algorithm": ("SAC", "Pendulum-v1", {}, "knows PPO, A2C and DQN, got SAC"),
    "sde": ("PPO", "Pendulum-v1", {"use_sde": True}, "knows Discrete actions from 0, got Box"),
    "activation": ("PPO", "darkroom", {"policy_kwargs": {"activation_fn": "GELU"}}, "knows the activations Tanh"),
    "optimiser": ("PPO", "darkroom", {"policy_kwargs": {"optimizer_class": "SGD"}}, "knows plain Adam and RMSprop"),
    "decay": (
        "PPO",
        "darkroom",
        {"policy_kwargs": {"optimizer_kwargs": {"weight_decay": 0.1}}},
        "knows plain Adam and RMSprop",
    ),
    "n-step": ("DQN", "darkroom", {"n_steps": 3}, "knows the plain replay buffer and n_steps=1 alone"),
    "episodes": ("DQN", "darkroom", {"train_freq": [1, "episode"]}, "counts train_freq in steps, got episodes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_lockstep_cannot_do_is_refused_in_one_line_that_names_the_engine_to_take(case):
    algorithm, family, hyperparameters, why = REFUSED[case]
    task = tasks.family(family).task_of_seed(0)
    spec = LearnerSpec(
        family=family,
        task=task,
        algorithm=algorithm,
        policy="MlpPolicy",
        hyperparameters=hyperparameters | {"engine": "lockstep"},
        num_streams=1,
        num_steps=100,
        seed=0,
    )
    line = re.escape(f"--engine lockstep: {why}") + r"[^\n]*\. Take --engine sb3, which can\.$"
    with pytest.raises(InvalidValue, match=line):
        engine_of(spec).check(spec, fields=None)


def test_checkpoints_on_the_way_are_refused_before_anything_starts(tmp_path):
    with pytest.raises(InvalidValue, match=r"--engine lockstep stores trained models alone \(final\), got every=100\."):
        plan_recording("ppo", "darkroom", "0", out=tmp_path / "store", checkpoints="every=100", **TINY)


def test_a_group_is_as_large_as_memory_bears(tmp_path):
    def size(algo: str, env: str = "darkroom", **changes: Any) -> int:
        plan = plan_recording(algo, env, "0", out=tmp_path / "none", engine="lockstep", **changes)
        return LockstepEngine().group_size(spec_of_seed(plan.template, 0))

    assert size("ppo") == 256
    assert size("ppo", streams=100, set={"n_steps": 200}) == 61
    assert (
        size("ppo", "watermaze", streams=1, set={"n_steps": 2_000}) == 7
    )  # pictures are recorded, if not learned from
    assert size("dqn", "watermaze") == 65
    assert size("dqn", steps=10**6, set={"buffer_size": 10**6}) == 6
    assert size("dqn", "watermaze", steps=10**6, set={"buffer_size": 10**6}) == 5  # sees five float32
