"""Stores for other people's formats: of any spaces, and a way to run an import or export to its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

import historystore as hs
from historystore.exchange import ExchangeReport, iter_exported, iter_imported
from historystore.fields import flatten
from historystore.packed import VARIABLE
from historystore.verify import iter_checked


def exported(store: Path, out: Path, *, to: str) -> ExchangeReport:
    """Export to the end."""
    *_, report = iter_exported(store, out, to=to)
    assert isinstance(report, ExchangeReport)
    return report


def imported(source: Path, store: Path, *, of: str) -> ExchangeReport:
    """Import to the end."""
    *_, report = iter_imported(source, store, of=of)
    assert isinstance(report, ExchangeReport)
    return report


def problems(store: Path) -> list[str]:
    """Verify a store; notes are no problems."""
    return [str(problem) for checked in iter_checked(store) for problem in checked.problems if not problem.is_note]


def sampled(prefix: str, space: spaces.Space, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return samples of a space as one array a field, (steps, streams, ...)."""
    batch = _batch(space, [space.sample() for _ in range(shape[0] * shape[1])])
    return {name: column.reshape(*shape, *column.shape[1:]) for name, column in flatten(prefix, space, batch).items()}


def _batch(space: spaces.Space, samples: list[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _batch(part, [sample[key] for sample in samples]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_batch(part, [sample[i] for sample in samples]) for i, part in enumerate(space.spaces))
    return samples if isinstance(space, VARIABLE) else np.stack(samples)


def spaced_store(path: Path, observations: spaces.Space, actions: spaces.Space, *, num_steps: int = 30) -> Path:
    """Record a learner with two streams, whose episodes have ten steps and the last of which is cut."""
    observations.seed(0)
    actions.seed(1)
    shape, rng = (num_steps, 2), np.random.default_rng(0)
    store = hs.create(path, family="sampled", observation_space=observations, action_space=actions)
    spec = hs.LearnerSpec(family="sampled", algorithm="PPO", policy="p", num_streams=2, num_steps=2 * num_steps)
    is_end = np.zeros(shape, bool)
    is_end[9:-1:10] = True
    following = sampled("observation", observations, shape)
    with hs.StoreWriter(store) as writer:
        learner = writer.begin(spec)
        learner.add_steps(
            {
                **sampled("observation", observations, shape),
                **sampled("action", actions, shape),
                "reward": rng.normal(size=shape),
                "terminated": is_end & (np.arange(2) == 0),
                "truncated": is_end & (np.arange(2) == 1),
                "raw_action": rng.normal(size=(*shape, 3)).astype("f4"),
                "info/lives": rng.integers(0, 3, shape),
                "info/a%2Fb/c": rng.random(shape) < 0.5,
            },
            final_observations={name: column[is_end] for name, column in following.items()},
            next_observation={name: column[-1] for name, column in following.items()},
        )
        learner.finish()
    return path
