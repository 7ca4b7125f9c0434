"""Do learners in lockstep learn as Stable-Baselines3's do? Many of each, on the same tasks with the same settings.

    python tests/benchmarks/lockstep_distribution.py
    python tests/benchmarks/lockstep_distribution.py --learners 20 --steps 2000 --plot curves.png

Each engine records PPO on Dark Room by its preset, with one stream and with eight. Seeds differ and tasks do not.
Compared are final returns (last ten episodes) and the mean over all episodes (the area under the learning curve), as
shares of the task's best, and the policies' entropy along the training. p is that of a two-sample Kolmogorov-Smirnov
test by permutation: how often learners dealt out at random lie as far apart. Of so many values one in twenty falls
below 0.05 by chance; `bound` is 0.05 by their number, below which the smallest would have to lie to mean something.
The plot shows mean learning curves with 95 % intervals of the mean.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table

import historystore
from historystore.recording import record
from historystore.returns import learner_final_returns, learner_mean_returns
from historystore.tasks import family

ENGINES = ("sb3", "lockstep")
N_STEPS = {1: 400, 8: 50}
"""By streams: a rollout is one batch of 400."""
POINTS = (0.1, 0.25, 0.5, 0.75, 1.0)
NUM_BINS = 15
NUM_DEALS = 20_000
DESCRIPTION = __doc__ or ""


def measured(path: Path) -> dict[str, Any]:
    """Return what is compared of each learner of a store, and each one's learning curve."""
    store = historystore.open(path)
    room = family("darkroom")
    best = np.array([room.best_return(learner.spec.task) for learner in store.learners])
    found: dict[str, Any] = {
        "final return": learner_final_returns(store) / best,
        "mean return": learner_mean_returns(store) / best,
    }
    updates = store.updates_table().to_pandas()
    for point in POINTS:
        ends = updates.groupby("learner")["step"].transform("max")
        there = updates[updates["step"] >= point * ends].groupby("learner")["train/entropy_loss"].first()
        found[f"entropy at {point:.0%}"] = -there.to_numpy()
    return found | {"curves": curves(store, best)}


def curves(store: historystore.Store, best: np.ndarray) -> np.ndarray:
    """Return (learners, bins): each learner's mean return by stage of its training, as a share of the best."""
    episodes, histories = store.episodes, store.histories
    history = episodes.history[~episodes.is_cut]
    stop = (episodes.first_step + episodes.length)[~episodes.is_cut]
    bins = np.minimum((stop - 1) * NUM_BINS // histories.num_steps[history], NUM_BINS - 1)
    place = histories.learner[history] * NUM_BINS + bins
    size = len(best) * NUM_BINS
    totals = np.bincount(place, weights=episodes.return_[~episodes.is_cut], minlength=size)
    return (totals / np.bincount(place, minlength=size)).reshape(-1, NUM_BINS) / best[:, None]


def ks_p_value(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return the largest distance of two samples' distribution functions, and how often chance makes it as large."""
    values = np.concatenate([one, other])
    order = np.argsort(values, kind="stable")
    is_last = np.append(np.diff(values[order]) > 0, True)  # of equal values
    deals = np.tile(np.arange(len(values)) < len(one), (NUM_DEALS + 1, 1))
    deals[1:] = np.random.default_rng(0).permuted(deals[1:], axis=1)
    is_one = deals[:, order]
    apart = np.cumsum(is_one, 1) / len(one) - np.cumsum(~is_one, 1) / len(other)
    distances = np.abs(apart[:, is_last]).max(1)
    return float(distances[0]), float((distances >= distances[0] - 1e-12).mean())


def compared(num_streams: int, found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare two engines on everything that was measured."""
    one, other = (found[engine] for engine in ENGINES)
    rows = []
    for name in one.keys() - {"curves"}:
        distance, p_value = ks_p_value(one[name], other[name])
        means = {engine: round(float(found[engine][name].mean()), 4) for engine in ENGINES}
        rows.append(
            {"streams": num_streams, "of": name} | means | {"distance": round(distance, 3), "p": round(p_value, 4)}
        )
    return sorted(rows, key=lambda row: list(one).index(row["of"]))


def draw(found: dict[int, dict[str, dict[str, Any]]], path: Path) -> None:
    """Draw mean learning curves with 95 % intervals."""
    figure, axes = plt.subplots(1, len(found), figsize=(5 * len(found), 3.6), sharey=True, squeeze=False)
    stages = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
    for axis, (num_streams, engines) in zip(axes[0], found.items(), strict=True):
        for engine, measures in engines.items():
            means = measures["curves"].mean(0)
            half = 1.96 * measures["curves"].std(0, ddof=1) / len(measures["curves"]) ** 0.5
            axis.plot(stages, means, label=f"{engine}, {len(measures['curves'])} learners")
            axis.fill_between(stages, means - half, means + half, alpha=0.25)
        axis.set(title=f"{num_streams} stream{'s' * (num_streams > 1)}", xlabel="share of the training", ylim=(0, 1))
    axes[0][0].set_ylabel("return as a share of the best")
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, default=100)
    parser.add_argument("--steps", type=int, help="of each learner (the preset's)")
    parser.add_argument("--streams", type=int, nargs="+", default=list(N_STEPS), choices=list(N_STEPS))
    parser.add_argument("--workers", type=int, help="processes (one a core)")
    parser.add_argument("--plot", type=Path, default=Path("lockstep_distribution.png"))
    options = parser.parse_args()
    num_tasks = family("darkroom").num_tasks
    found: dict[int, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for num_streams in options.streams:
            found[num_streams] = {}
            for index, engine in enumerate(ENGINES):
                first = index * num_tasks * (1 + options.learners // num_tasks)
                seeds = range(first, first + options.learners)
                out = Path(folder) / f"{engine}-{num_streams}"
                report = record(
                    "ppo",
                    "darkroom",
                    seeds,
                    engine=engine,
                    out=out,
                    streams=num_streams,
                    steps=options.steps,
                    workers=options.workers,
                    fields=[],
                    set={"n_steps": N_STEPS[num_streams]},
                )
                assert report.learners.complete == options.learners, report
                found[num_streams][engine] = measured(out)
    rows = [row for num_streams, engines in found.items() for row in compared(num_streams, engines)]
    table = Table("streams", "of", *ENGINES, "distance", "p")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
    draw(found, options.plot)
    for row in rows:
        print(json.dumps(row))
    print(json.dumps({"smallest_p": min(row["p"] for row in rows), "bound": round(0.05 / len(rows), 4)}))
    print(f"The learning curves are in {options.plot}.")


if __name__ == "__main__":
    main()
