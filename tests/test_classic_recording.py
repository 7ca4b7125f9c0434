"""`hist record` with the classic engine: presets, kills, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

import historystore
from historystore.errors import InvalidValue
from historystore.recording import plan_recording, record
from historystore.recording.algorithms import algorithm
from historystore.recording.presets import preset, presets
from historystore.returns import learner_final_returns, learner_first_returns

OURS = [pair for pair in presets() if algorithm(pair[0]).engine == "classic"]
NUM_LEARNERS = 40


@pytest.mark.parametrize(("algo", "env"), OURS)
def test_nine_in_ten_learners_of_every_preset_end_within_a_tenth_of_their_best(algo, env, tmp_path):
    report = record(algo, env, "0-29", out=tmp_path / "store", workers=1)
    assert report.learners.complete == 30
    store = historystore.open(tmp_path / "store")
    best = np.array([learner.row.provenance.best_return for learner in store.learners])
    assert (learner_final_returns(store) >= 0.9 * best).mean() >= 0.9
    if algo != "expert" and env != "bandit":  # where chance alone earns half
        assert (learner_first_returns(store) / best).mean() < 0.5
    assert preset(algo, env).why


def _command(out: Path, *options: str) -> list[str]:
    recording = ["record", "--algo", "q-learning", "--env", "darkroom", "--seeds", f"0-{NUM_LEARNERS - 1}"]
    return [sys.executable, "-m", "hist_cli", *recording, "--out", str(out), "--workers", "2", *options]


def _killed_while_recording(out: Path, sent: signal.Signals) -> subprocess.Popen[str]:
    """Start a recording and stop it when steps are sealed and more are to come."""
    process = subprocess.Popen(
        _command(out, "--json", "--steps", "20000", "--seal-s", "0.2"),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if json.loads(line).get("num_bytes"):
            break
    workers = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, sent)
    process.communicate(timeout=20)
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    return process


def test_killed_and_interrupted_a_recording_ends_as_if_undisturbed(tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "store"
    subprocess.run(_command(whole, "-q", "--steps", "20000"), check=True, capture_output=True)
    for sent in (signal.SIGKILL, signal.SIGINT):
        process = _killed_while_recording(out, sent)
        assert process.returncode == (-signal.SIGKILL if sent == signal.SIGKILL else 130)
        states = list(historystore.open(out).status_of().values())
        assert states.count("partial") > 0
        assert list(out.rglob("*.tmp")) == []
    store = historystore.open(out)
    assert all(learner.row.error == "interrupted" for learner in store.learners if learner.row.status == "partial")
    subprocess.run(_command(out, "-q", "--steps", "20000"), check=True, capture_output=True)
    again = historystore.open(out)
    assert set(again.status_of().values()) == {"complete"}
    assert again.digest == historystore.open(whole).digest


def test_an_algorithm_without_a_preset_has_its_own_defaults_and_policy(tmp_path):
    plan = plan_recording("q-learning", "FrozenLake-v1", "0", out=tmp_path / "store", steps=1000)
    assert (plan.template.policy, plan.template.num_steps, plan.template.num_streams) == ("QTable", 1000, 1)
    assert plan.template.hyperparameters["engine"] == "classic"
    assert plan.template.hyperparameters["learning_rate"] == 0.3


@pytest.mark.parametrize(
    ("algo", "options", "line"),
    [
        (
            "ucb",
            {"env": "bandit", "engine": "sb3"},
            "--engine: UCB learns by classic, got sb3. Leave it out.",
        ),
        (
            "ppo",
            {"env": "darkroom", "engine": "classic"},
            "--engine: PPO learns by sb3, got classic. Leave it out.",
        ),
        (
            "noise",
            {"env": "darkroom", "checkpoints": "final"},
            "--checkpoints: NoiseDistillation has no model to store, got final. Leave it out.",
        ),
        (
            "q-learning",
            {"env": "darkroom", "set": {"alpha": 0.1}},
            "--set: QLearning has no hyperparameter 'alpha', expected one of anneal_share, epsilon_final, "
            "epsilon_start, gamma, initial_noise, initial_value, learning_rate, schedule, update_interval. "
            "Check the name.",
        ),
        (
            "thompson",
            {"env": "bandit", "set": {"prior_failures": "one"}},
            '--set prior_failures: ThompsonSampling takes a finite number, got "one". Change the value.',
        ),
    ],
)
def test_what_cannot_be_recorded_gets_one_line_before_anything_starts(algo, options, line, tmp_path):
    with pytest.raises(InvalidValue) as refusal:
        plan_recording(algo, seeds="0", out=tmp_path / "store", **options)
    assert str(refusal.value) == line


@pytest.mark.parametrize(
    ("algo", "env", "line"),
    [
        ("q-learning", "CartPole-v1", "QLearning: expected Discrete or MultiDiscrete observations, got Box"),
        ("ucb", "Pendulum-v1", "UCB: expected Discrete actions, got Box"),
        ("expert", "CartPole-v1", "Expert: needs an optimal policy, and CartPole-v1 knows none."),
    ],
)
def test_a_world_that_the_algorithm_cannot_live_in_gets_one_line(algo, env, line, tmp_path):
    with pytest.raises(InvalidValue) as refusal:
        record(algo, env, "0-1", out=tmp_path / "store", steps=100)
    assert str(refusal.value).startswith(line)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "store").exists()


def test_a_learner_that_raises_ends_as_failed_and_the_others_of_its_group_go_on(tmp_path, monkeypatch):
    (tmp_path / "shaky.py").write_text(
        "import gymnasium as gym\n"
        "class Shaky(gym.Env):\n"
        "    observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        self.seed, self.step_number = seed if seed is not None else self.seed, 0\n"
        "        return 0, {}\n"
        "    def step(self, action):\n"
        "        self.step_number += 1\n"
        "        if self.seed == 1 and self.step_number == 7:\n"
        "            raise RuntimeError('shaken')\n"
        "        return int(action), float(action), self.step_number == 10, False, {}\n"
        "gym.register('Shaky-v0', entry_point=Shaky)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    report = record("q-learning", "shaky:Shaky-v0", "0-2", out=tmp_path / "store", steps=50, workers=1)
    assert [(failure.seed, failure.error) for failure in report.failures] == [(1, "RuntimeError: shaken")]
    assert (report.learners.complete, report.learners.failed, report.learners.partial) == (2, 1, 0)
