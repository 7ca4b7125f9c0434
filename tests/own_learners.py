"""Learners of a user's own, for tests to name by import path."""

from __future__ import annotations

from typing import Any

from stable_baselines3 import PPO


class Patient(PPO):
    """PPO that takes one argument more."""

    def __init__(self, *args: Any, patience: int = 3, gamma: float = 0.9, **kwargs: Any) -> None:
        super().__init__(*args, gamma=gamma, **kwargs)
        self.patience = patience


class Plain(Patient):
    """The same under another name, without a constructor."""


class NoLearner:
    """Not on Stable-Baselines3's base."""

    made = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise SystemExit("called")
