"""`hist export-model`: files that Stable-Baselines3 itself loads, and that act as the learner did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from batched_points import BatchedPoints
from stable_baselines3 import A2C, DQN, PPO, SAC

import historystore
from historystore.recording.vec_env import BatchedVecEnv
from historystore.sb3 import HistoryRecorder

torch.set_num_threads(1)
PAGE = Path(__file__).parent / "pages" / "export-model-help.txt"
SETTINGS: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 16, "batch_size": 16, "learning_rate": lambda left: 1e-3 * left},
    A2C: {},
    DQN: {"learning_starts": 20, "batch_size": 8},
    SAC: {"learning_starts": 20, "batch_size": 8},
}


def hist(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hist_cli", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Any, Any]]:
    """Return a folder with a store of four learners with a checkpoint and one without, and the models themselves."""
    folder, made = tmp_path_factory.mktemp("models"), {}
    for seed, (kind, settings) in enumerate(SETTINGS.items()):
        made[kind] = kind("MlpPolicy", points(kind), seed=seed, device="cpu", **settings)
        name = "points" if kind is not SAC else "pushes"
        made[kind].learn(64, callback=HistoryRecorder(folder / name, family="points", checkpoints="final"))
    A2C("MlpPolicy", points(A2C), seed=9, device="cpu").learn(10, HistoryRecorder(folder / "points", family="points"))
    return folder, made


def points(kind: Any) -> BatchedVecEnv:
    return BatchedVecEnv(BatchedPoints(2, is_discrete=kind is not SAC))


def drawn(model: Any, *, is_deterministic: bool) -> np.ndarray:
    obs = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32) * 3
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - DQN explores by NumPy's global generator
    model.action_space.seed(0)
    return np.stack([model.predict(row, deterministic=is_deterministic)[0] for row in obs])


@pytest.mark.parametrize("kind", list(SETTINGS))
def test_an_exported_model_acts_as_the_learner_did(models: tuple[Path, dict[Any, Any]], kind: Any) -> None:
    folder, made = models
    name, seed = "points" if kind is not SAC else "pushes", list(SETTINGS).index(kind)
    answer = hist("export-model", name, f"seed={seed}", f"{kind.__name__}.zip", "--json", cwd=folder)
    assert (answer.returncode, answer.stderr) == (0, "")
    report = json.loads(answer.stdout)
    out = folder / report["path"]
    loaded = kind.load(out, device="cpu")
    for is_deterministic in (True, False):
        expected = drawn(made[kind], is_deterministic=is_deterministic)
        np.testing.assert_array_equal(drawn(loaded, is_deterministic=is_deterministic), expected)
    assert report["num_timesteps"] == loaded.num_timesteps == made[kind].num_timesteps
    assert list(report["left_out"]) == (["learning_rate"] if kind is PPO else [])
    _, _, algorithm = report["algorithm"].partition(":")
    assert getattr(stable_baselines3, algorithm) is kind
    assert report["num_bytes"] == out.stat().st_size


def test_an_exported_model_learns_on(models: tuple[Path, dict[Any, Any]]) -> None:
    folder, _ = models
    hist("export-model", "points", "seed=1", "on.zip", cwd=folder)
    A2C.load(folder / "on.zip", env=points(A2C), device="cpu").learn(20)


def test_what_it_says(models: tuple[Path, dict[Any, Any]]) -> None:
    folder, _ = models
    store = historystore.open(folder / "points")
    ids = {learner.spec.seed: learner.id for learner in store.learners}
    having = ", ".join(f"{one.id[:12]} (seed {one.spec.seed})" for one in store.learners if one.row.checkpoint)
    answer = hist("export-model", "points", ids[0][:10], "said.zip", cwd=folder)
    num_bytes = (folder / "said.zip").stat().st_size
    assert answer.stdout == (
        f"said.zip: the PPO model of learner {ids[0][:12]} after 64 steps, {num_bytes:,} bytes\n"
        "learning_rate is a constant there, as it was at the end\n"
        "next: PPO.load('said.zip')\n"
    )
    cases = {
        ids[0][:10]: "said.zip: is there already. Choose another name.",
        "seed=9": f"points: learner {ids[9][:12]} has no checkpoint, expected one of those that have: {having}. "
        "Choose one of them.",
        "seed=5": "points: no learner of seed 5. Give the beginning of its id.",
        "zz": "points: no learner with an id beginning 'zz'. Give a whole id.",
    }
    for learner, line in cases.items():
        answer = hist("export-model", "points", learner, "said.zip", cwd=folder)
        assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", f"Error: {line}\n")


def test_the_help_page(tmp_path: Path) -> None:
    assert hist("export-model", "--help", cwd=tmp_path).stdout == PAGE.read_text()
