"""Do a preset's learners converge, how smoothly, and what do they cost?

    python tests/benchmarks/presets.py ppo darkroom --learners 81
    python tests/benchmarks/presets.py ppo darkroom --set learning_rate=1e-3 --steps 4000
    python tests/benchmarks/presets.py dqn CartPole-v1 --learners 4 --last 100

Nothing is recorded: this is bare `learn()` in one process with one torch thread. Seeds 0, 1, 2, ... so that
consecutive learners have distinct tasks; as many learners as the family has tasks cover it once. Returns are shares of
the best where it is known, else as they are.
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
from historystore.recording.plan import plan_recording, spec_of_seed
from historystore.tasks import family

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


def learned_returns(spec: LearnerSpec) -> tuple[np.ndarray, np.ndarray, float]:
    """Return each episode's last step and return, and the CPU seconds it all took."""
    start_s = time.process_time()
    model, returns = build_model(spec), Returns()
    model.learn(spec.num_steps, callback=returns)
    steps, values = zip(*returns.episodes, strict=True)
    return np.array(steps), np.array(values), time.process_time() - start_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algo")
    parser.add_argument("env")
    parser.add_argument("--learners", type=int, default=81)
    parser.add_argument("--seed", type=int, default=0, help="the first one's")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--streams", type=int)
    parser.add_argument("--last", type=int, default=20, help="episodes that count as the end")
    parser.add_argument("--env-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()

    plan = plan_recording(
        args.algo,
        args.env,
        f"{args.seed}-{args.seed + args.learners - 1}",
        env_args=dict(parse_assignment(text, option="--env-arg") for text in args.env_arg),
        out="/nonexistent/store",
        steps=args.steps,
        streams=args.streams,
        set=dict(parse_assignment(text) for text in args.set),
    )
    world = family(plan.template.family, plan.template.env_args)
    ends, curves, cpu_s, num_steps, unsolved, is_share = [], [], 0.0, 0, [], False
    for seed in plan.todo:
        spec = spec_of_seed(plan.template, seed)
        steps, values, learner_s = learned_returns(spec)
        best = world.best_return(spec.task)
        is_share = best is not None
        values = values / best if is_share else values
        bins = np.minimum(steps * NUM_BINS // (spec.num_steps + 1), NUM_BINS - 1)
        curves.append([values[bins == index].mean() if (bins == index).any() else np.nan for index in range(NUM_BINS)])
        ends.append(values[-max(args.last, spec.num_streams) :].mean())
        if is_share and ends[-1] < 0.9:
            unsolved.append((spec.task, round(float(ends[-1]), 2)))
        unit = " of its best" if is_share else ""
        print(spec.task, f"{ends[-1]:.2f}{unit}", f"{learner_s:.1f} CPU s", file=sys.stderr, flush=True)
        cpu_s, num_steps = cpu_s + learner_s, num_steps + int(steps[-1])
    report = {
        "preset": [args.algo, args.env],
        "learners": args.learners,
        "mean_at_end": float(np.mean(ends)),
        "mean_curve": np.nanmean(curves, axis=0).round(3).tolist(),
        "env_steps_per_cpu_s": round(num_steps / cpu_s),
        "cpu_s_per_learner": round(cpu_s / args.learners, 2),
    }
    if is_share:
        report |= {"share_within_90_percent": float(np.mean(np.array(ends) >= 0.9)), "unsolved": unsolved}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
