"""Evaluation: does the transformer learn, in its context alone, tasks that it was never trained on?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import JsonValue

from historystore.errors import InvalidValue
from historystore.splits import Part, Split, Task
from historystore.tasks import Family

from .references import LAST_EPISODES, References, references_of_family
from .results import Evaluation, Interval, PartResult, TaskResult
from .rollouts import Rollouts, roll_out
from .run import Run
from .worlds import family_of, fresh_tasks, trained_args

DEFAULT_PARTS: tuple[Part, ...] = ("test", "train")
FRESH = "fresh"
FIRST_EPISODES = 3
NUM_RESAMPLES = 1000
LEVEL = 0.95

OnProgress = Callable[[str, float], None]


def evaluate(
    run: Run,
    *,
    parts: Sequence[Part] | None = None,
    num_fresh: int = 0,
    env_args: Mapping[str, JsonValue] | None = None,
    num_episodes: int = 50,
    num_rollouts: int = 8,
    seed: int = 0,
    compare: Run | None = None,
    device: str | None = None,
    on_progress: OnProgress = lambda what, share: None,
) -> Evaluation:
    """Let a run's transformer live `num_episodes` in every task of some parts of its split, or in fresh tasks.

    Every rollout starts with an empty context, actions are sampled, weights are frozen; episodes may go on far beyond
    the context. The same run, seed and device give the same numbers. About 10 000 environment steps a second on one
    core at the default size (`tests/benchmarks/evaluation.py`).

    Args:
        run: what `load_run` returned.
        parts: of the run's split; by default test and train where they have tasks, and none beside fresh tasks.
        num_fresh: tasks drawn anew, from seeds that no recorder takes; none that a store of the run holds.
        env_args: arguments of the family that shall differ from those the run was trained with.
        num_episodes: of each rollout.
        num_rollouts: of each task.
        seed: of the sampled actions.
        compare: another run to put on the same tasks, such as the expert-distillation control.
        device: where to run; a GPU by default, if there is one.
        on_progress: called after each step with a name and the share of it that is done.

    Raises:
        InvalidValue: numbers below 1, a seed below 0, a part without tasks or too few fresh ones, a family that is
            unknown or of another version or other spaces, a `compare` of another split, or a device that this machine
            does not have.
    """
    _check_numbers(num_episodes=num_episodes, num_rollouts=num_rollouts, num_fresh=num_fresh, seed=seed)
    known = family_of(run, env_args or {})
    _check_comparable(run, compare)
    settings: dict[str, Any] = {"num_episodes": num_episodes, "num_rollouts": num_rollouts, "seed": seed}
    chosen = _chosen_tasks(run, known, parts, num_fresh=num_fresh, seed=seed)
    results = _lived(run, known, chosen, device=device, on_progress=on_progress, **settings)
    where: dict[str, Any] = {"parts": parts, "num_fresh": num_fresh, "env_args": env_args, "device": device}
    other = None if compare is None else evaluate(compare, on_progress=on_progress, **where, **settings)
    return Evaluation(
        run=run.path.resolve().name,
        family=run.document.family,
        family_args=known.args,
        trained_args=trained_args(run),
        method=run.config.method,
        num_updates=run.num_updates,
        is_complete=run.is_complete,
        store_digests=tuple(store.digest for store in run.document.stores),
        split_seed=run.config.split_seed,
        compared=other,
        **settings,
        **results,
    )


def _check_numbers(*, num_episodes: int, num_rollouts: int, num_fresh: int, seed: int) -> None:
    if num_episodes < 1 or num_rollouts < 1 or num_fresh < 0:
        raise InvalidValue(
            f"evaluation: needs at least 1 episode and rollout, got {num_episodes}, {num_rollouts}"
            f"{f', and {num_fresh} fresh tasks' * (num_fresh < 0)}. Ask for more."
        )
    if seed < 0:
        raise InvalidValue(f"evaluation: seed is not a whole number from 0 up, got {seed}. Use one.")


def _lived(
    run: Run,
    known: Family,
    chosen: Mapping[str, Sequence[Task]],
    *,
    num_episodes: int,
    num_rollouts: int,
    seed: int,
    device: str | None,
    on_progress: OnProgress,
) -> dict[str, PartResult]:
    """Live in the tasks of each part, and hold what came of it against what is known of them."""
    agent = run.load_agent(device=device or ("cuda" if torch.cuda.is_available() else "cpu"))
    results: dict[str, PartResult] = {}
    for part, tasks in chosen.items():
        lived = roll_out(
            agent,
            known,
            tasks,
            num_rollouts=num_rollouts,
            num_episodes=num_episodes,
            seed=seed,
            on_step=partial(on_progress, f"{run.config.method} on {part} tasks"),
        )
        is_recorded = part != FRESH and known.args == trained_args(run)
        references = run.references if is_recorded else references_of_family(known, tasks)
        results[part] = part_result(tasks, lived, references, seed=seed)
    return results


def _check_comparable(run: Run, compare: Run | None) -> None:
    if compare is not None and _data(compare) != _data(run):
        raise InvalidValue(
            f"{compare.path}: has another split than {run.path}, so its training may have seen the tasks compared on. "
            "Train it with the same split_seed and stores."
        )


def _data(run: Run) -> tuple[object, ...]:
    """Return what two runs must share to be compared."""
    return run.document.family, run.document.family_args, run.document.split


def _chosen_tasks(
    run: Run, known: Family, parts: Sequence[Part] | None, *, num_fresh: int, seed: int
) -> dict[str, tuple[Task, ...]]:
    """Return the tasks to live in, by part."""
    split = run.document.split
    if parts is None:
        parts = () if num_fresh else [part for part in DEFAULT_PARTS if split.part(part)]
    chosen: dict[str, tuple[Task, ...]] = {part: split.part(part) for part in dict.fromkeys(parts)}
    for part in (part for part, tasks in chosen.items() if not tasks):
        raise InvalidValue(f"{run.path}: {why_no_tasks(split, part)}. Choose another part.")
    return {**chosen, FRESH: fresh_tasks(known, run, count=num_fresh, seed=seed)} if num_fresh else chosen


def why_no_tasks(split: Split, part: str) -> str:
    """Say why a part of a split has no tasks."""
    if len(split.train) == 1 and not (split.validation or split.test):
        return f"there are no {part} tasks, for its stores hold a single task and that was trained on"
    return f"its split has no {part} tasks"


def part_result(tasks: Sequence[Task], lived: Rollouts, references: References, *, seed: int) -> PartResult:
    """Sum up the rollouts of one part's tasks."""
    generator = np.random.default_rng(seed)
    env_steps = lived.lengths.mean(axis=(0, 1)).cumsum()
    curves = lived.returns.mean(axis=1)  # (tasks, rollouts, episodes) -> (tasks, episodes)
    last = curves[:, -LAST_EPISODES:].mean(axis=1)
    source, rows = references.source_at(tasks, env_steps), references.rows(tasks)
    samples = curves if len(tasks) > 1 else lived.returns[0]
    ends = samples[:, -LAST_EPISODES:].mean(axis=1, keepdims=True)
    low, high = bootstrap(np.concatenate([samples, ends], axis=1), generator)
    intervals = [Interval(low=a, high=b) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    return PartResult(
        num_tasks=len(tasks),
        env_steps_by_episode=tuple(env_steps.tolist()),
        return_by_episode=tuple(curves.mean(axis=0).tolist()),
        interval_by_episode=tuple(intervals[:-1]),
        first_return=float(curves[:, :FIRST_EPISODES].mean()),
        last_return=float(last.mean()),
        last_interval=intervals[-1],
        lowest_task_return=float(last.min()),
        source_return_by_episode=_known(_mean(source)),
        source_last_return=_known(_mean(references.source_last[rows, None]))[0],
        best_return=_known(_mean(references.best[rows, None]))[0],
        random_return=_known(_mean(references.random[rows, None]))[0],
        tasks=tuple(
            _task_result(task, lived.returns[i], references, row=rows[i], source=source[i], generator=generator)
            for i, task in enumerate(tasks)
        ),
    )


def bootstrap(
    values: Float[np.ndarray, "samples columns"], generator: np.random.Generator
) -> tuple[Float[np.ndarray, " columns"], Float[np.ndarray, " columns"]]:
    """Return the ends of each column's mean under resampling of the rows, rows drawn together: percentile method."""
    count = len(values)
    picks = generator.multinomial(count, np.full(count, 1.0 / count), size=NUM_RESAMPLES)  # (resamples, samples)
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(picks @ values / count, [tail, 1.0 - tail], axis=0)
    return low, high


def _task_result(
    task: Task,
    returns: Float[np.ndarray, "rollouts episodes"],
    references: References,
    *,
    row: int,
    source: Float[np.ndarray, " episodes"],
    generator: np.random.Generator,
) -> TaskResult:
    last = returns[:, -LAST_EPISODES:].mean(axis=1, keepdims=True)
    low, high = bootstrap(last, generator)
    bounds = np.array([references.source_last[row], references.best[row], references.random[row]])
    source_last, best, random = _known(bounds)
    return TaskResult(
        task=task,
        return_by_episode=tuple(returns.mean(axis=0).tolist()),
        first_return=float(returns[:, :FIRST_EPISODES].mean()),
        last_return=float(last.mean()),
        last_interval=Interval(low=float(low[0]), high=float(high[0])),
        source_return_by_episode=_known(source),
        source_last_return=source_last,
        best_return=best,
        random_return=random,
        returns=tuple(map(tuple, returns.tolist())),
    )


def _mean(values: Float[np.ndarray, "tasks columns"]) -> Float[np.ndarray, " columns"]:
    """Average over the tasks for which a number is known; NaN where there is none."""
    known = ~np.isnan(values)
    counts = known.sum(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=0)
    means: np.ndarray = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means


def _known(values: Float[np.ndarray, " numbers"]) -> tuple[float | None, ...]:
    return tuple(None if np.isnan(value) else value for value in values.tolist())
