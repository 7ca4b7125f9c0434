"""Training speed in tokens (transitions) a second: float32 against bfloat16, and two ways to attend in bfloat16.

    python tests/benchmarks/training.py [--updates 12] [--threads 1] [--set heads=2]

Medians over updates of the default configuration on scripted Dark Room histories; the last column is against float32.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from toy_histories import write_darkroom

import distill.model
from distill import TrainConfig, train

GOALS = [(x, y) for x in range(9) for y in range(0, 9, 4)]


def tokens_per_s(store: Path, config: TrainConfig) -> float:
    """Return the median speed over a short training's updates, the first two left out."""
    with tempfile.TemporaryDirectory() as folder:
        speeds = [progress.tokens_per_s for progress in train(store, Path(folder) / "run", config)]
    return statistics.median(speeds[2:])


def fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, dropout: float) -> torch.Tensor:
    """Attend with PyTorch's fused kernel, whatever the precision."""
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=query.shape[2] > 1, dropout_p=dropout
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = dict(text.split("=", 1) for text in options.settings)
    quiet = {"updates": options.updates, "validate_every": 10**6, "validation_episodes": 0, "validation_windows": 1}
    config = TrainConfig().with_values({"episode_stride": "1-3", "min_progress": "none", **quiet, **settings})
    written_out = distill.model.attend
    with tempfile.TemporaryDirectory() as folder:
        store = write_darkroom(Path(folder) / "store", GOALS, num_episodes=40).path
        baseline = tokens_per_s(store, config.with_values({"precision": "float32"}))
        rows = {"float32, fused attention": baseline}
        bfloat16 = config.with_values({"precision": "bfloat16"})
        rows["bfloat16, written-out attention"] = tokens_per_s(store, bfloat16)
        distill.model.attend = fused
        rows["bfloat16, fused attention"] = tokens_per_s(store, bfloat16)
        distill.model.attend = written_out
    for name, speed in rows.items():
        print(f"{name:<34} {speed:>9,.0f} tokens/s  {speed / baseline:5.2f}")


if __name__ == "__main__":
    main()
