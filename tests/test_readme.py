"""What the README shows works: its Python runs as it stands, its commands parse."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from historystore.recording import record

README = (Path(__file__).parent.parent / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("hist ")]


def test_the_loading_example_has_about_ten_lines_and_reads_recorded_windows(tmp_path: Path) -> None:
    """On six learners of the preset, so that a split and the learners that converged are something to choose."""
    (example,) = (code for code in PYTHON if "WindowDataset" in code and "WindowStream" not in code)
    assert len([line for line in example.splitlines() if line]) <= 12
    (stream,) = (code for code in PYTHON if "WindowStream" in code)
    record("ppo", "darkroom", "0-5", out=tmp_path / "darkroom-ppo")
    code = [sys.executable, "-c", f"{example}{stream}print(batch['reward'].shape)"]
    answer = subprocess.run(code, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    batch, history, streamed = answer.stdout.splitlines()
    assert streamed == "torch.Size([64, 200])"
    assert "'observation': (64, 200, 2)" in batch
    assert "'action': (64, 200)" in batch
    assert history.endswith(str(6 * 300)), "the rows of the episode table"


def test_the_recorder_example_is_one_argument(tmp_path: Path) -> None:
    (example,) = (code for code in PYTHON if "HistoryRecorder" in code)
    before = (
        "from stable_baselines3 import PPO\n"
        "model = PPO('MlpPolicy', 'CartPole-v1', n_steps=64, batch_size=64, n_epochs=1, device='cpu')\n"
    )
    after = "import historystore\nprint(historystore.open('my-store').num_steps)"
    code = before + example.replace("100_000", "128") + after
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "128\n"


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_parses(line: str) -> None:
    """An option that does not exist is refused before --help is heard."""
    command = [sys.executable, "-m", "hist_cli", *shlex.split(line)[1:], "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_the_readme_shows_the_users_command() -> None:
    assert "hist record --algo ppo --env darkroom --seeds 0-999" in COMMANDS
