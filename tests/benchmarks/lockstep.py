"""How fast learners in lockstep are: against Stable-Baselines3, against JAX, and against what the core can do.

    python tests/benchmarks/lockstep.py
    python tests/benchmarks/lockstep.py --jax --profile
    python tests/benchmarks/lockstep.py --streams 1 --learners 64 --rounds 1 --scale 0.2

Everything runs on one core, with one thread, in rounds; a round goes through all cases in one order, the next in the
other. Every round measures Stable-Baselines3, lockstep and JAX on the same number of streams one after the other, and a
ratio is the median over rounds of that round's. `bare` is acting and learning alone, after a warm-up, by CPU time, so
that the machine's other work is not in it; `recorded` is what `hist record --workers 1` tells by the clock: all but the
start of its process. Stable-Baselines3's speed does not depend on the number of learners and is taken on one (bare) or
two (recorded). Bare, all learners advance at once; recorded, as many as the engine takes (256). JAX is left out above
256 learners, for it takes 10 s to compile each case. Memory is the largest resident set of any process.
JSON lines follow the table.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import cProfile
import io
import json
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from historystore import tasks
from historystore.documents import LearnerSpec
from historystore.lockstep.dqn_run import DqnRun
from historystore.lockstep.engine import template_model
from historystore.lockstep.on_policy_run import OnPolicyRun
from historystore.lockstep.ppo import _CHUNK as CHUNK
from historystore.lockstep.scratch import Scratch
from historystore.lockstep.worlds import Worlds
from historystore.recording.engine import build_model

_PPO = {"n_epochs": 10, "learning_rate": 3e-4}
SETTINGS: dict[tuple[str, int], dict[str, Any]] = {
    ("ppo", 1): _PPO | {"n_steps": 200, "batch_size": 50},
    ("ppo", 8): _PPO | {"n_steps": 25, "batch_size": 50},
    ("ppo", 100): _PPO | {"n_steps": 5, "batch_size": 125},
    ("a2c", 8): {"n_steps": 10},
    ("dqn", 1): {"learning_starts": 100, "buffer_size": 10_000, "train_freq": 4, "target_update_interval": 200},
}
"""By algorithm and streams. The work a step does not depend on them for PPO: four minibatches, each seen ten times."""
SB3_STEPS = {("ppo", 1): 2_000, ("ppo", 8): 8_000, ("ppo", 100): 40_000, ("a2c", 8): 16_000, ("dqn", 1): 4_000}
"""About two seconds."""
BARE_STEPS = 100_000
RECORDED_STEPS, RECORDED_STEPS_EACH = 100_000, 600
"""Of all learners, and of each of many."""
MOST_JAX_LEARNERS = 256
DESCRIPTION, LAYERS = (__doc__ or ""), [(18, 64), (64, 64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """So many learners of an algorithm, each with so many streams."""

    algo: str
    streams: int
    learners: int

    @property
    def rollout(self) -> int:
        """Steps of a learner between two updates, over its streams."""
        settings = SETTINGS[self.algo, self.streams]
        return int(settings.get("n_steps", 200)) * self.streams

    def steps_each(self, all_steps: float) -> int:
        """Return whole rollouts of one learner that make up about so many steps of all."""
        return max(round(all_steps / self.learners / self.rollout), 1) * self.rollout

    def specs(self, *, num_steps: int) -> list[LearnerSpec]:
        """Return the learners."""
        room = tasks.family("darkroom")
        return [
            LearnerSpec(
                family="darkroom",
                task=room.task_of_seed(seed),
                algorithm=self.algo.upper(),
                policy="MlpPolicy",
                hyperparameters=SETTINGS[self.algo, self.streams],
                num_streams=self.streams,
                num_steps=num_steps,
                seed=seed,
            )
            for seed in range(self.learners)
        ]


def run_of(case: Case) -> OnPolicyRun | DqnRun:
    """Return learners in lockstep, warmed up by their first stretch."""
    specs = case.specs(num_steps=10**9 if case.algo != "dqn" else 10**5)
    model: Any = template_model(specs[0])
    envs = tasks.family("darkroom").make_batched([spec.task for spec in specs for _ in range(case.streams)])
    worlds = Worlds(envs, seeds=[None] * envs.num_envs)
    run = DqnRun(model, specs, worlds) if case.algo == "dqn" else OnPolicyRun(model, specs, worlds)
    run.advance(lambda _: None)
    return run


def bare_lockstep(case: Case, run: OnPolicyRun | DqnRun, *, scale: float) -> float:
    """Return env-steps a second of learners that nobody records."""
    num_done, wanted = run.num_steps, case.steps_each(BARE_STEPS * scale) // case.streams
    start = time.process_time()
    while run.num_steps - num_done < wanted:
        run.advance(lambda _: None)
    lived = (run.num_steps - num_done) * case.streams * case.learners
    return lived / (time.process_time() - start)


def bare_sb3(case: Case, *, scale: float) -> float:
    """Return env-steps a second of one learner that nobody records."""
    model = build_model(case.specs(num_steps=1)[0])
    model.learn(case.rollout)
    num_steps = model.num_timesteps
    start = time.process_time()
    model.learn(round(SB3_STEPS[case.algo, case.streams] * scale), reset_num_timesteps=False)
    return (model.num_timesteps - num_steps) / (time.process_time() - start)


_WEIGHED = """
import os, sys
_, status, usage = os.wait4(os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:]), 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Runs a command and tells its memory; from a small process, for what starts one counts into its largest set."""


def recorded(case: Case, *, engine: str, all_steps: float) -> tuple[float, float]:
    """Return env-steps a second, as `hist record` tells it, and the largest resident set in MB."""
    with tempfile.TemporaryDirectory() as folder:
        what = ["--algo", case.algo, "--env", "darkroom", "--engine", engine, "--seeds", f"0-{case.learners - 1}"]
        sizes = ["--streams", str(case.streams), "--steps", str(case.steps_each(all_steps)), "--workers", "1"]
        settings = [part for name, value in _explicit(case).items() for part in ("--set", f"{name}={value}")]
        command = [sys.executable, "-m", "hist_cli", "record", *what, *sizes, *settings, "--out", f"{folder}/store"]
        with Path(folder, "answer").open("w+") as answer:
            subprocess.run([sys.executable, "-c", _WEIGHED, *command, "--json"], stdout=answer, check=True)
            answer.seek(0)
            *_, report, kilobytes = answer.readlines()
    return json.loads(report)["steps_per_s"], int(kilobytes) / 1024


def _explicit(case: Case) -> dict[str, Any]:
    """Return every setting that a preset of Dark Room would otherwise decide."""
    defaults = {
        "ppo": {"gamma": 0.99, "ent_coef": 0.0},
        "a2c": {"gamma": 0.99, "ent_coef": 0.0, "learning_rate": 7e-4},
        "dqn": {"batch_size": 32, "gamma": 0.99, "learning_rate": 1e-4},
    }
    return defaults[case.algo] | SETTINGS[case.algo, case.streams]


def flops_per_step(case: Case) -> float:
    """Return the float operations of PPO's matrix products for one step: acted once, learned from in every epoch."""
    networks = [[*LAYERS, (64, 5)], [*LAYERS, (64, 1)]]
    forward = sum(2 * inputs * outputs for layers in networks for inputs, outputs in layers)
    backward = 2 * forward - sum(2 * layers[0][0] * layers[0][1] for layers in networks)
    return forward + int(SETTINGS[case.algo, case.streams]["n_epochs"]) * (forward + backward)


def gflops_of(product: Callable[[], object], num_flops: float) -> float:
    """Return how many thousand million float operations a second of CPU a product does, at its best of some tries."""
    times, best = max(int(2e9 / num_flops), 1), float("inf")
    for _ in range(12):
        start = time.process_time()
        for _ in range(times):
            product()
        best = min(best, (time.process_time() - start) / times)
    return num_flops / best / 1e9


def limits(case: Case) -> dict[str, float]:
    """Return what the core does with one large product, and with the batched ones of a minibatch alone, in GFLOP/s."""
    large = torch.rand(1024, 1024)
    found = {"large": gflops_of(lambda: torch.mm(large, large), 2 * 1024**3)}
    rows, num = int(SETTINGS[case.algo, case.streams]["batch_size"]), min(CHUNK, case.learners)
    products, num_flops, scratch = [], 0.0, Scratch()
    for index, (inputs, outputs) in enumerate([*LAYERS, (64, 5), *LAYERS, (64, 1)]):
        value, grad = (
            scratch.aligned(f"value{index}", num, rows, inputs),
            scratch.aligned(f"grad{index}", num, rows, outputs),
        )
        weight = torch.rand(num, 2**14)[:, : inputs * outputs].view(num, outputs, inputs)
        products += [(value, weight.mT), (grad.mT, value)]
        if inputs == 64:
            products.append((grad, weight))
        num_flops += (6 if inputs == 64 else 4) * num * rows * inputs * outputs
    shapes = [(num, left.shape[1], right.shape[2]) for left, right in products]
    outs = [scratch.aligned(f"out{index}", *shape) for index, shape in enumerate(shapes)]

    def minibatch() -> None:
        for (left, right), out in zip(products, outs, strict=True):
            torch.bmm(left, right, out=out)

    return found | {"batched": gflops_of(minibatch, num_flops)}


def profile(case: Case, *, scale: float) -> str:
    """Return where the time goes: the operations of PyTorch, and the functions of Python."""
    run = run_of(case)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        bare_lockstep(case, run, scale=0.3 * scale)
    table = seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=22, max_name_column_width=40)
    tracer, text = cProfile.Profile(), io.StringIO()
    tracer.runcall(bare_lockstep, case, run, scale=scale)
    pstats.Stats(tracer, stream=text).sort_stats("tottime").print_stats(22)
    return f"{table}\n{text.getvalue()}"


class Speeds:
    """Every speed that was measured, by name and case, one a round."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Case], list[float]] = defaultdict(list)

    def add(self, name: str, case: Case, speed: float) -> None:
        """Add one round's speed and tell it."""
        self._found[name, case].append(speed)
        print(f"{name}: {case.algo}, {case.streams} streams, {case.learners} learners: {speed:,.0f}", file=sys.stderr)

    def median(self, name: str, case: Case) -> float | None:
        """Return the median, None if there is none."""
        found = self._found[name, case]
        return statistics.median(found) if found else None

    def ratio(self, name: str, case: Case, other: str, other_case: Case) -> float | None:
        """Return the median over rounds of one speed by the other of the same round."""
        pairs = zip(self._found[name, case], self._found[other, other_case], strict=True)
        ratios = [one / another for one, another in pairs]
        return statistics.median(ratios) if ratios else None


def sb3_case(case: Case, num_learners: int) -> Case:
    """Return the case on which Stable-Baselines3's speed is taken."""
    return Case(algo=case.algo, streams=case.streams, learners=num_learners)


def measurements(cases: list[Case], options: argparse.Namespace, *, speeds: Speeds) -> Iterator[Callable[[], None]]:
    """Yield what one round measures, all of one number of streams together."""
    scale = options.scale
    sb3_steps = {case: SB3_STEPS[case.algo, case.streams] * scale for case in cases}
    for algo, streams in dict.fromkeys((case.algo, case.streams) for case in cases):
        here = [case for case in cases if (case.algo, case.streams) == (algo, streams)]
        one, two = sb3_case(here[0], 1), sb3_case(here[0], 2)
        yield lambda one=one: speeds.add("bare sb3", one, bare_sb3(one, scale=scale))
        for case in here:
            yield lambda case=case: speeds.add("bare", case, bare_lockstep(case, run_of(case), scale=scale))
            if options.jax and algo == "ppo" and case.learners <= MOST_JAX_LEARNERS:
                yield lambda case=case: speeds.add("jax", case, jax_speed(case, scale=scale))
        if not options.bare:
            steps = 2 * sb3_steps[here[0]]
            yield lambda two=two, steps=steps: speeds.add(
                "recorded sb3", two, recorded(two, engine="sb3", all_steps=steps)[0]
            )
            for case in here:
                yield lambda case=case: _add_recorded(speeds, case, scale=scale)


def _add_recorded(speeds: Speeds, case: Case, *, scale: float) -> None:
    all_steps = max(RECORDED_STEPS, RECORDED_STEPS_EACH * case.learners) * scale
    speed, megabytes = recorded(case, engine="lockstep", all_steps=all_steps)
    speeds.add("recorded", case, speed)
    speeds.add("megabytes", case, megabytes)


_JAX: dict[Case, Any] = {}


def jax_speed(case: Case, *, scale: float) -> float:
    """Return env-steps a second of JAX's learners; they are compiled once."""
    from lockstep_jax import JaxLearners, Settings

    if case not in _JAX:
        settings = SETTINGS[case.algo, case.streams]
        sizes = (settings["n_steps"], settings["batch_size"], settings["n_epochs"])
        _JAX[case] = JaxLearners(case.learners, Settings(case.streams, *sizes))
        _JAX[case].advance(1)
    num_updates = case.steps_each(BARE_STEPS * scale) // case.rollout
    return num_updates * _JAX[case].num_steps_each / _JAX[case].advance(num_updates)


def result(case: Case, speeds: Speeds, limit: dict[str, float] | None) -> dict[str, Any]:
    """Return all that was found of a case."""
    found: dict[str, Any] = {"algo": case.algo, "streams": case.streams, "learners": case.learners}
    for name, num_sb3 in (("bare", 1), ("recorded", 2)):
        found[name] = speeds.median(name, case)
        found[f"{name}_sb3"] = speeds.median(f"{name} sb3", sb3_case(case, num_sb3))
        found[f"{name}_by_sb3"] = speeds.ratio(name, case, f"{name} sb3", sb3_case(case, num_sb3))
    found["jax"] = speeds.median("jax", case)
    found["bare_by_jax"] = speeds.ratio("bare", case, "jax", case) if found["jax"] else None
    found["megabytes"] = speeds.median("megabytes", case)
    for name, gflops in (limit or {}).items():
        found[f"{name}_gflops"] = gflops
        found[f"share_of_{name}"] = found["bare"] * flops_per_step(case) / gflops / 1e9
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}


def render(results: list[dict[str, Any]]) -> Table:
    """Render the results, one case a row."""
    table = Table(title="env-steps a second on one core")
    columns = (
        "bare",
        "bare_by_sb3",
        "recorded",
        "recorded_by_sb3",
        "bare_by_jax",
        "share_of_large",
        "share_of_batched",
    )
    names = ("algo", "streams", "learners", *columns, "megabytes")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for row in results:
        values = (row.get(name) for name in names)
        table.add_row(
            *(
                ""
                if v is None
                else f"{v:,.2f}"
                if isinstance(v, float) and v < 100
                else f"{v:,.0f}"
                if isinstance(v, float)
                else str(v)
                for v in values
            )
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 100], choices=[1, 8, 100])
    parser.add_argument("--learners", type=int, nargs="+", default=[16, 64, 256, 1024])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of all lengths (1)")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="to be pinned to (the last)")
    parser.add_argument("--bare", action="store_true", help="record nothing")
    parser.add_argument("--ppo-only", action="store_true", help="without the points of A2C and DQN")
    parser.add_argument("--jax", action="store_true", help="compare with JAX too; it has to be installed")
    parser.add_argument("--profile", action="store_true", help="print where the time goes, at 256 learners, one stream")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    cases = [Case(algo="ppo", streams=each, learners=num) for each in options.streams for num in options.learners]
    if not options.ppo_only:
        cases += [Case(algo="a2c", streams=8, learners=256), Case(algo="dqn", streams=1, learners=256)]
    speeds = Speeds()
    for index in range(options.rounds):
        steps = list(measurements(cases, options, speeds=speeds))
        for step in steps if index % 2 == 0 else reversed(steps):
            step()
    limit = {case: limits(case) if case.algo == "ppo" else None for case in cases}
    results = [result(case, speeds, limit[case]) for case in cases]
    Console(width=150).print(render(results))
    for each in results:
        print(json.dumps(each))
    if options.profile:
        print(profile(Case(algo="ppo", streams=1, learners=256), scale=options.scale))


if __name__ == "__main__":
    main()
