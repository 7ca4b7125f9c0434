"""Distill the learning histories of a store into one transformer, and evaluate it: Algorithm Distillation.

Everything but the configuration imports torch, so names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .config import ModelConfig, TrainConfig
from .preset_files import Preset, preset, presets

if TYPE_CHECKING:
    from .evaluation import evaluate
    from .progress import TrainProgress
    from .results import Evaluation
    from .run import Run, load_run
    from .training import train

__all__ = [
    "Evaluation",
    "ModelConfig",
    "Preset",
    "Run",
    "TrainConfig",
    "TrainProgress",
    "evaluate",
    "load_run",
    "preset",
    "presets",
    "train",
]

_HOMES = {
    "Evaluation": "results",
    "Run": "run",
    "TrainProgress": "progress",
    "evaluate": "evaluation",
    "load_run": "run",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
