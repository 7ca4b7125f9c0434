"""In-context evaluation in environment steps a second: the cache against recomputing the whole context at every step.

    python tests/benchmarks/evaluation.py [--tasks 16] [--rollouts 8] [--episodes 25] [--threads 1]

The default model with fresh weights on Dark Room; recomputing is timed over the steps of one full context.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from distill import TrainConfig
from distill.context import Context
from distill.model import DistilledAgent
from distill.rollouts import roll_out
from historystore.tasks import family


def cached_steps_per_s(agent: DistilledAgent, *, num_tasks: int, num_rollouts: int, num_episodes: int) -> float:
    """Return the speed of whole rollouts."""
    darkroom = family("darkroom")
    started = time.perf_counter()
    lived = roll_out(
        agent, darkroom, darkroom.tasks()[:num_tasks], num_rollouts=num_rollouts, num_episodes=num_episodes, seed=0
    )
    return float(lived.lengths.sum()) / (time.perf_counter() - started)


@torch.inference_mode()
def recomputed_steps_per_s(agent: DistilledAgent, *, num_envs: int, num_steps: int = 10) -> float:
    """Return the speed of choosing actions from a full context without a cache."""
    context = Context(agent, num_envs=num_envs)
    context.length = agent.context_length
    window = context.tokens()
    started = time.perf_counter()
    for _ in range(num_steps):
        agent(window)
    return num_envs * num_steps / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("tasks", 16), ("rollouts", 8), ("episodes", 25), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config, darkroom = TrainConfig(), family("darkroom")
    agent = DistilledAgent(
        config.model,
        context_length=config.context_length,
        observation_space=darkroom.observation_space,
        action_space=darkroom.action_space,
    ).eval()
    counts = {"num_tasks": options.tasks, "num_rollouts": options.rollouts}
    speeds = [cached_steps_per_s(agent, **counts, num_episodes=options.episodes) for _ in range(3)]
    baseline = recomputed_steps_per_s(agent, num_envs=options.tasks * options.rollouts)
    cached = float(np.median(speeds))
    print(f"recomputed at every step {baseline:>9,.0f} env-steps/s")
    print(f"cached                   {cached:>9,.0f} env-steps/s  {cached / baseline:5.1f}")


if __name__ == "__main__":
    main()
