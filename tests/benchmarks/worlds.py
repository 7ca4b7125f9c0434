"""Do the presets' learners converge, world by world: one row for each (world, learner), recorded as a user would.

    python tests/benchmarks/worlds.py                      # every row, 35 minutes on one core
    python tests/benchmarks/worlds.py --only darkroom ppo  # rows that name all of these words

A learner has converged when its last ten episodes lie at least 90 % of the way from random to the best on its task.
Where best or random are unknown the goal is what a world's makers call solved, or what is said beside the row.
Speed is by the clock, the start of the processes included; bytes are those of all recorded fields.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import historystore
from historystore.recording import RecordOptions, record
from historystore.returns import learner_final_returns


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Learners of one kind in one world; `goal` counts where best or random are not known."""

    env: str
    algo: str
    seeds: str
    options: RecordOptions = field(default_factory=RecordOptions)
    goal: float | None = None

    @property
    def words(self) -> set[str]:
        """What `--only` can name."""
        return {self.env, self.algo, self.options.get("engine") or ""}


LOCKSTEP: RecordOptions = {"engine": "lockstep", "streams": 1}
MUST_FIND: RecordOptions = {
    "env_args": {"is_heading_random": False},
    "steps": 2_000,
    "set": {"must_find": True, "epsilon_start": 0.7},
}
MOSTLY_FOUND = 0.9
"""Of a best of 1; how often a random swimmer that starts eastwards finds a platform depends on where it lies."""
SOLVED_CARTPOLE = 475.0
SOLVED_PENDULUM = -200.0
"""Commonly called solved; 0, the best, cannot be reached."""

ROWS = (
    Row(env="bandit", algo="ucb", seeds="0-199"),
    Row(env="bandit", algo="thompson", seeds="0-199"),
    Row(env="darkroom", algo="ppo", seeds="0-80"),
    Row(env="darkroom", algo="ppo", seeds="0-323", options=LOCKSTEP),
    Row(env="darkroom", algo="a2c", seeds="0-15"),
    Row(env="darkroom", algo="dqn", seeds="0-15"),
    Row(env="darkroom", algo="q-learning", seeds="0-323"),
    Row(env="darkroom", algo="noise", seeds="0-323"),
    Row(env="darkroom-permuted", algo="ppo", seeds="0-7"),
    Row(env="darkroom-permuted", algo="q-learning", seeds="0-119"),
    Row(env="darkroom-hard", algo="ppo", seeds="0-15"),
    Row(env="darkroom-hard", algo="ppo", seeds="0-63", options=LOCKSTEP),
    Row(env="darkroom-hard", algo="q-learning", seeds="0-288"),
    Row(env="darkroom-hard", algo="noise", seeds="0-288"),
    Row(env="dark-key-to-door", algo="ppo", seeds="0-7"),
    Row(env="dark-key-to-door", algo="ppo", seeds="0-63", options=LOCKSTEP),
    Row(env="dark-key-to-door", algo="q-learning", seeds="0-255"),
    Row(env="dark-key-to-door", algo="noise", seeds="0-255"),
    Row(env="watermaze", algo="ppo", seeds="0-23"),
    Row(env="watermaze", algo="dqn", seeds="0-7"),
    Row(env="watermaze", algo="noise", seeds="0-31"),
    Row(env="watermaze", algo="noise", seeds="0-99", options=MUST_FIND, goal=MOSTLY_FOUND),
    Row(env="CartPole-v1", algo="ppo", seeds="0-7", goal=SOLVED_CARTPOLE),
    Row(env="CartPole-v1", algo="dqn", seeds="0-15", goal=SOLVED_CARTPOLE),
    Row(env="Pendulum-v1", algo="sac", seeds="0-15", goal=SOLVED_PENDULUM),
    Row(env="Pendulum-v1", algo="td3", seeds="0-7", goal=SOLVED_PENDULUM),
)
"""The rows of the table."""


def measured(row: Row, place: Path) -> dict[str, Any]:
    """Record a row's learners and sum up how they ended."""
    report = record(row.algo, row.env, row.seeds, **(row.options | {"out": place}))
    store = historystore.open(place)
    origins = [learner.row.provenance for learner in store.learners]
    final = learner_final_returns(store)
    best, random = (
        np.array([np.nan if getattr(origin, name) is None else getattr(origin, name) for origin in origins], float)
        for name in ("best_return", "random_return")
    )
    target = np.full(len(final), row.goal) if row.goal is not None else random + 0.9 * (best - random)
    return {
        "env": row.env,
        "algo": row.algo,
        "options": json.dumps(row.options),
        "learners": len(final),
        "converged": float(np.mean(final >= target)),
        "final_return": float(final.mean()),
        "best_return": _mean(best),
        "random_return": _mean(random),
        "goal": row.goal,
        "steps_a_learner": store.num_steps // len(final),
        "env_steps_per_s": round(report.steps_per_s),
        "bytes_a_step": store.num_bytes / store.num_steps,
        "seconds": report.seconds,
        "failed": report.learners.failed,
    }


def _mean(values: np.ndarray) -> float | None:
    return None if np.isnan(values).any() else float(values.mean())


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def main() -> None:
    """Measure the rows that are asked for, and print them as JSON lines and as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD")
    rows = [row for row in ROWS if set(parser.parse_args().only) <= row.words]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for number, row in enumerate(rows):
            results.append(measured(row, Path(folder, str(number))))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    print("| " + " | ".join(results[0]) + " |\n|" + " --- |" * len(results[0]))
    for result in results:
        print("| " + " | ".join(map(_cell, result.values())) + " |")


if __name__ == "__main__":
    main()
