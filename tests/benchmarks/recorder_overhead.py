"""What recording costs: recorded against bare `learn()`, same seed, alternating, medians.

    python tests/benchmarks/recorder_overhead.py
    python tests/benchmarks/recorder_overhead.py --case dqn --steps 4000 --rounds 15

Each round runs every case bare and recorded, in an order that alternates, in one process with one torch thread. The
recorded run includes all of it: opening the store, every step and update, sealing the shard and waiting for the disk. A
ratio is the median over rounds of that round's recorded time by its bare time. CPU time is shown beside wall time,
because the machine's other work is not in it.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from historystore.recording.vec_env import BatchedVecEnv
from historystore.sb3 import HistoryRecorder
from historystore.tasks import family

ROOM = family("darkroom")
TASK = {"goal": [6, 2]}


def batched(num_streams: int) -> BatchedVecEnv:
    return BatchedVecEnv(ROOM.make_batched([TASK] * num_streams))


def single() -> DummyVecEnv:
    return DummyVecEnv([lambda: ROOM.make(TASK)])


PPO_SETTINGS = {"n_steps": 400, "batch_size": 400, "learning_rate": 3e-3, "gamma": 0.85, "ent_coef": 0.03}
CASES: dict[str, Callable[[], BaseAlgorithm]] = {
    "ppo": lambda: PPO("MlpPolicy", batched(1), seed=0, device="cpu", **PPO_SETTINGS),
    "ppo-gym": lambda: PPO("MlpPolicy", single(), seed=0, device="cpu", **PPO_SETTINGS),
    "ppo-small-batches": lambda: PPO("MlpPolicy", batched(1), seed=0, device="cpu", n_steps=200, batch_size=50),
    "ppo-100-streams": lambda: PPO("MlpPolicy", batched(100), seed=0, device="cpu", n_steps=20, batch_size=400),
    "a2c": lambda: A2C("MlpPolicy", batched(1), seed=0, device="cpu"),
    "dqn": lambda: DQN("MlpPolicy", batched(1), seed=0, device="cpu", learning_starts=100, buffer_size=10_000),
    "dqn-gym": lambda: DQN("MlpPolicy", single(), seed=0, device="cpu", learning_starts=100, buffer_size=10_000),
}


def seconds(case: str, *, steps: int, store: Path | None) -> tuple[float, float]:
    """Return wall and CPU seconds of one `learn()`, recorded if there is a store."""
    model = CASES[case]()
    model.set_logger(Logger(folder=None, output_formats=[]))
    wall, cpu = time.perf_counter(), time.process_time()
    model.learn(steps, callback=None if store is None else HistoryRecorder(store, family="darkroom", task=TASK))
    return time.perf_counter() - wall, time.process_time() - cpu


def measured(case: str, *, steps: int, rounds: int) -> dict[str, Any]:
    """Return the medians of a case."""
    bare, recorded = [], []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(-1, rounds):  # the first round warms up and does not count
            pair = {}
            for is_recorded in (True, False) if index % 2 else (False, True):
                store = Path(folder) / f"{case}-{index}" if is_recorded else None
                pair[is_recorded] = seconds(case, steps=steps, store=store)
            if index >= 0:
                bare.append(pair[False])
                recorded.append(pair[True])
    wall_ratios = [one[0] / other[0] for one, other in zip(recorded, bare, strict=True)]
    cpu_ratios = [one[1] / other[1] for one, other in zip(recorded, bare, strict=True)]
    return {
        "case": case,
        "steps": steps,
        "rounds": rounds,
        "bare_steps_per_s": round(steps / statistics.median(wall for wall, _ in bare)),
        "recorded_steps_per_s": round(steps / statistics.median(wall for wall, _ in recorded)),
        "wall_ratio": round(statistics.median(wall_ratios), 3),
        "wall_ratio_range": [round(min(wall_ratios), 3), round(max(wall_ratios), 3)],
        "cpu_ratio": round(statistics.median(cpu_ratios), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="again for several; all when not given")
    parser.add_argument("--steps", type=int, default=6000, help="environment steps over all streams (6000)")
    parser.add_argument("--rounds", type=int, default=9, help="pairs of runs (9)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for case in options.case or CASES:
        print(json.dumps(measured(case, steps=options.steps, rounds=options.rounds)), flush=True)


if __name__ == "__main__":
    main()
