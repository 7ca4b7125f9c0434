"""Killed at any moment, a recording with checkpoints goes on from the last one, and ends as an undisturbed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from batched_points import BatchedPoints
from stable_baselines3 import PPO

import historystore
from historystore.recording.vec_env import BatchedVecEnv
from historystore.resumption import PROGRESS
from historystore.sb3 import HistoryRecorder
from historystore.verify import verify

torch.set_num_threads(1)
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link"}
"""What changes a folder, as Python's audit events call it."""


def learn(path: Path) -> None:
    env = BatchedVecEnv(BatchedPoints(2, is_discrete=True))
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=3, device="cpu")
    model.learn(96, callback=HistoryRecorder(path, family="points", checkpoints="every=32"))


def killed_at(change: int, path: Path) -> bool:
    """Learn in a process that kills itself before some change to the disk; return whether it came so far."""
    pid = os.fork()
    if pid == 0:
        left = change

        def count(event: str, _args: Any) -> None:
            nonlocal left
            if event in _CHANGES:
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        learn(path)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == signal.SIGKILL


def filled_checkpoints(path: Path) -> set[str]:
    """Name the checkpoints; the empty folder of a killed process stays."""
    return {folder.name for folder in (path / "checkpoints").iterdir() if any(folder.iterdir())}


def test_killed_before_any_change_to_the_disk_it_ends_as_undisturbed(tmp_path: Path) -> None:
    learn(tmp_path / "undisturbed")
    digest = historystore.open(tmp_path / "undisturbed").digest
    final = filled_checkpoints(tmp_path / "undisturbed")
    steps = []
    change = 0
    while killed_at(change, path := tmp_path / str(change)):
        change += 1
        store = historystore.open(path) if (path / "store.json").exists() else None
        if store is not None and (checkpoints := {learner.row.checkpoint for learner in store.learners} - {None}):
            assert checkpoints <= filled_checkpoints(path)
        learn(path)
        store = historystore.open(path)
        (learner,) = store.learners
        assert (store.digest, learner.status) == (digest, "complete")
        steps.append(0 if learner.row.continues is None else learner.row.continues.step)
        assert filled_checkpoints(path) == final
        assert [problem for problem in verify(path) if not problem.is_note] == []
    assert change > 30
    assert set(steps) == {0, 16, 32}
    lived = steps[: steps.index(32) + steps.count(32)]
    assert lived == sorted(lived), "no checkpoint is lost before the next one counts"


SETTINGS = {
    "ppo": ["n_steps=50", "batch_size=50", "n_epochs=1"],
    "dqn": ["learning_starts=100", "train_freq=4", "batch_size=16", "buffer_size=1500"],
}


def recording(algo: str, out: Path, *options: str) -> list[str]:
    where = ["--algo", algo, "--env", "darkroom", "--seeds", "0-1", "--out", str(out), "--workers", "2", "--json"]
    settings = [part for text in SETTINGS[algo] for part in ("--set", text)]
    return [
        sys.executable,
        "-m",
        "hist_cli",
        "record",
        *where,
        "--steps",
        "6000",
        "--streams",
        "2",
        *settings,
        *options,
    ]


def kill_on_the_way(command: list[str], out: Path) -> None:
    """Kill a recording and all of its processes as soon as one of its checkpoints has made way for a newer one."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    before, seen, kept = checkpoints_in(out), set(), set()
    while not seen - kept:
        assert process.poll() is None
        time.sleep(0.002)
        kept = checkpoints_in(out)
        seen |= kept - before
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in family:
        one.kill()
    process.wait()
    psutil.wait_procs(family)


def checkpoints_in(out: Path) -> set[str]:
    return {file.parent.name for file in out.glob(f"checkpoints/*/{PROGRESS}")}


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_a_killed_command_goes_on_from_the_checkpoints_and_ends_as_undisturbed(tmp_path: Path, algo: str) -> None:
    def ended(out: Path, *options: str) -> Any:
        answer = subprocess.run(recording(algo, out, *options), capture_output=True, text=True, check=True)
        return json.loads(answer.stdout.splitlines()[-1])

    undisturbed = ended(tmp_path / "undisturbed")
    out = tmp_path / "store"
    for _ in range(2):
        kill_on_the_way(recording(algo, out, "--checkpoints", "every=500"), out)
    report = ended(out, "--checkpoints", "every=500")
    assert report["num_continued"] > 0
    assert report["num_steps_recorded"] < 2 * 6000
    store = historystore.open(out)
    assert report["digest"] == store.digest == undisturbed["digest"]
    assert report["learners"] == {"complete": 2, "partial": 0, "failed": 0}
    assert any(learner.row.continues is not None for learner in store.learners)
    assert filled_checkpoints(out) == {learner.row.checkpoint for learner in store.learners}
    assert [problem for problem in verify(out) if not problem.is_note] == []
