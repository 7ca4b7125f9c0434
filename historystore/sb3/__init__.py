"""The recorder for Stable-Baselines3 learners (imports stable_baselines3 and torch).

``model.learn(n, callback=HistoryRecorder("my-store"))`` is all it takes, on- and off-policy.
"""

from historystore.sb3.checkpoint import load_checkpoint, save_checkpoint
from historystore.sb3.recorder import HistoryRecorder

__all__ = ["HistoryRecorder", "load_checkpoint", "save_checkpoint"]
