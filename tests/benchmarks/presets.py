"""Do a preset's learners converge, how smoothly, and what do they cost?

    python tests/benchmarks/presets.py ppo darkroom --learners 81
    python tests/benchmarks/presets.py ppo darkroom --set learning_rate=1e-3 --steps 4000

Nothing is recorded: this is bare `learn()` in one process with one torch thread. Seeds 0, 1, 2, ... so that
consecutive learners have distinct tasks; as many learners as the family has tasks cover it once.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import sys
import time

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from historystore.documents import LearnerSpec
from historystore.recording.engine import build_model
from historystore.recording.hyperparameters import parse_assignment
from historystore.recording.presets import algorithms, preset
from historystore.tasks import families, family

LAST_EPISODES = 20
NUM_BINS = 10


class Returns(BaseCallback):
    """Keep the return of every episode, by the step at which it ended (PPO later changes the rewards in place)."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes: list[tuple[int, float]] = []

    def _init_callback(self) -> None:
        self._sums = np.zeros(self.training_env.num_envs)

    def _on_step(self) -> bool:
        self._sums += self.locals["rewards"]
        for stream in np.flatnonzero(self.locals["dones"]):
            self.episodes.append((self.num_timesteps, float(self._sums[stream])))
            self._sums[stream] = 0.0
        return True


def learner_spec(args: argparse.Namespace, seed: int) -> LearnerSpec:
    chosen = preset(args.algo, args.family)
    return LearnerSpec(
        family=args.family,
        env_args={},
        task=family(args.family).task_of_seed(seed),
        algorithm=chosen.algorithm,
        policy=chosen.policy,
        hyperparameters={**chosen.hyperparameters, **dict(parse_assignment(text) for text in args.set)},
        num_streams=args.streams or chosen.num_streams,
        num_steps=args.steps or chosen.num_steps,
        seed=seed,
    )


def learned_returns(spec: LearnerSpec) -> tuple[np.ndarray, np.ndarray, float]:
    """Return each episode's last step and return, and the CPU seconds it all took."""
    start_s = time.process_time()
    model, returns = build_model(spec), Returns()
    model.learn(spec.num_steps, callback=returns)
    steps, values = zip(*returns.episodes, strict=True)
    return np.array(steps), np.array(values), time.process_time() - start_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algo", choices=algorithms())
    parser.add_argument("family", choices=families())
    parser.add_argument("--learners", type=int, default=81)
    parser.add_argument("--seed", type=int, default=0, help="the first one's")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--streams", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()

    progress, curves, cpu_s, num_steps, unsolved = [], [], 0.0, 0, []
    for seed in range(args.seed, args.seed + args.learners):
        spec = learner_spec(args, seed)
        steps, values, learner_s = learned_returns(spec)
        values /= family(args.family).best_return(spec.task)
        bins = np.minimum(steps * NUM_BINS // (spec.num_steps + 1), NUM_BINS - 1)
        curves.append([values[bins == index].mean() for index in range(NUM_BINS)])
        progress.append(values[-max(LAST_EPISODES, spec.num_streams) :].mean())
        if progress[-1] < 0.9:
            unsolved.append((spec.task["goal"], round(float(progress[-1]), 2)))
        print(spec.task, f"{progress[-1]:.2f} of its best", f"{learner_s:.1f} CPU s", file=sys.stderr, flush=True)
        cpu_s, num_steps = cpu_s + learner_s, num_steps + int(steps[-1])
    print(
        json.dumps(
            {
                "preset": [args.algo, args.family],
                "learners": args.learners,
                "share_within_90_percent": float(np.mean(np.array(progress) >= 0.9)),
                "mean_progress_at_end": float(np.mean(progress)),
                "mean_curve": np.mean(curves, axis=0).round(3).tolist(),
                "env_steps_per_cpu_s": round(num_steps / cpu_s),
                "cpu_s_per_learner": round(cpu_s / args.learners, 2),
                "unsolved": unsolved,
            }
        )
    )


if __name__ == "__main__":
    main()
