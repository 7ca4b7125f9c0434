"""Named settings: every file is valid, and each trains."""

import json
from importlib.resources import files
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from toy_histories import write_bandits, write_spaces

from distill import TrainConfig, preset, presets, train
from historystore.errors import InvalidValue

PAPER = ("bandit", "dark-key-to-door", "darkroom", "darkroom-hard", "watermaze")
SMALL = {
    "context_length": 10,
    "updates": 1,
    "batch_size": 2,
    "episode_stride": 1,
    "min_progress": "none",
    "validation_windows": 2,
    "validation_episodes": 0,
}


def test_there_is_one_for_each_world_of_the_paper_beside_our_best() -> None:
    assert presets() == [f"{kind}-{world}" for kind in ("best", "paper") for world in PAPER]


@pytest.mark.parametrize("name", presets())
def test_each_is_valid_describes_itself_and_trains(tmp_path: Path, name: str) -> None:
    document = json.loads(files("distill").joinpath("presets", f"{name}.json").read_text())
    assert document["description"].endswith(".")
    assert preset(name).config() == TrainConfig().with_values(document["values"])
    if name.endswith("watermaze"):
        frames = gym.spaces.Box(0, 255, (72, 96, 3), np.uint8)
        store = write_spaces(tmp_path / "store", frames, gym.spaces.Discrete(8))
    else:
        store = write_bandits(tmp_path / "store")
    (progress,) = train(store, tmp_path / "run", preset(name).config(SMALL))
    assert progress.loss > 0


@pytest.mark.parametrize("world", PAPER)
def test_the_papers_share_its_model_and_optimiser(world: str) -> None:
    config = preset(f"paper-{world}").config()
    shape = (config.model.layers, config.model.heads, config.model.width, config.model.feed_forward)
    assert shape == (4, 4, 64, 2048)
    assert (config.model.layout, config.model.norm, config.model.positions) == ("three", "post", "learned")
    assert (config.optimizer, config.betas, config.weight_decay, config.ema_decay) == ("adamw", (0.9, 0.99), 0.0, 0.0)
    assert (config.batch_size, config.clip_norm) == (128, 1.0)
    assert (config.learning_rate, config.final_learning_rate) == (3e-4, 2e-6)
    is_hard = world == "darkroom-hard"
    assert (config.token_masking, config.label_smoothing) == ((0.5, 0.2) if is_hard else (0.3, 0.0))
    assert (config.model.dropout, config.model.attention_dropout) == (0.1, 0.0 if is_hard else 0.5)


def test_values_override_a_preset() -> None:
    config = preset("paper-darkroom").config({"updates": "7", "layers": 2})
    assert (config.updates, config.model.layers, config.model.feed_forward) == (7, 2, 2048)


def test_an_unknown_preset_is_one_line() -> None:
    with pytest.raises(InvalidValue) as caught:
        preset("paper-atari")
    assert (
        str(caught.value) == f"preset: there is no 'paper-atari', expected one of {', '.join(presets())}. Choose one."
    )
