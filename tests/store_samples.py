"""Small lives of learners, every number of which is known, and stores made of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gymnasium import spaces

import historystore as hs
from historystore.checkpoints import CheckpointDocument, file_digests, write_checkpoint

OBSERVATIONS = spaces.MultiDiscrete([9, 9])
ACTIONS = spaces.Discrete(5)
VALUES = ("train/loss", "train/entropy_loss", "time/fps")


@dataclass(frozen=True, kw_only=True)
class Life:
    """What one learner lives: arrays (steps, streams, ...), with one more observation than steps."""

    spec: hs.LearnerSpec
    steps: dict[str, np.ndarray]
    following: np.ndarray
    """True next observation of each step."""
    seeds: np.ndarray

    def add(self, writer: hs.LearnerWriter, start: int, stop: int) -> None:
        """Add steps as a recorder would."""
        block = {name: array[start:stop] for name, array in self.steps.items()}
        is_end = block["terminated"] | block["truncated"]
        next_start = stop if stop < len(self.seeds) else 0
        is_last_end = is_end[-1][:, None]
        following = np.where(is_last_end, self.steps["observation"][next_start], self.following[stop - 1])
        writer.add_steps(
            block,
            final_observations={"observation": self.following[start:stop][is_end]},
            next_observation={"observation": following},
            episode_seeds=self.seeds[start:stop],
        )


def life(
    *, seed: int = 0, num_steps: int = 60, num_streams: int = 3, end_rate: float = 0.2, reward_dtype: str = "f4"
) -> Life:
    """Return a random life; observations go on within an episode and start anew behind its end."""
    rng = np.random.default_rng(seed)
    shape = (num_steps, num_streams)
    terminated = rng.random(shape) < end_rate / 2
    truncated = (rng.random(shape) < end_rate / 2) & ~terminated
    observation = rng.integers(0, 9, (*shape, 2))
    following = rng.integers(0, 9, (*shape, 2))
    goes_on = ~(terminated | truncated)[:-1]
    following[:-1][goes_on] = observation[1:][goes_on]
    starts = np.ones(shape, bool)
    starts[1:] = (terminated | truncated)[:-1]
    return Life(
        spec=spec(seed=seed, num_streams=num_streams, num_steps=num_steps * num_streams),
        steps={
            "observation": observation,
            "action": rng.integers(0, 5, shape),
            "reward": rng.normal(size=shape).astype(reward_dtype),
            "terminated": terminated,
            "truncated": truncated,
            "log_prob": rng.normal(size=shape).astype("f4"),
        },
        following=following,
        seeds=np.where(starts, rng.integers(0, 1000, shape), -1),
    )


def spec(*, seed: int = 0, num_streams: int = 3, num_steps: int = 180, **changes: object) -> hs.LearnerSpec:
    """Return a learner's specification."""
    keys = {
        "family": "grid",
        "task": {"goal": [seed % 9, 4]},
        "algorithm": "PPO",
        "policy": "MlpPolicy",
        "hyperparameters": {"learning_rate": 1e-3, "n_steps": 20},
        "num_streams": num_streams,
        "num_steps": num_steps,
        "seed": seed,
    }
    return hs.LearnerSpec(**(keys | changes))


def create(path: Path) -> hs.Store:
    """Create the store that the lives of this module fit in."""
    return hs.create(path, family="grid", observation_space=OBSERVATIONS, action_space=ACTIONS)


def record(
    writer: hs.StoreWriter,
    lived: Life,
    *,
    cuts: Iterable[int] = (),
    seals: Sequence[int] = (),
    finish: str | None = "complete",
) -> hs.LearnerWriter:
    """Record a life in blocks cut at some steps, sealing at some of the cuts."""
    learner = writer.begin(lived.spec)
    num_steps = len(lived.seeds)
    bounds = sorted({0, num_steps, *cuts, *seals})
    for start, stop in itertools.pairwise(bounds):
        lived.add(learner, start, stop)
        if stop in seals:
            writer.seal()
    add_updates(learner, num_steps)
    if finish is not None:
        learner.finish(status=finish)
    return learner


def add_updates(learner: hs.LearnerWriter, num_steps: int) -> None:
    """Add an update every 20 steps, the first without one of the values."""
    for number, step in enumerate(range(20, num_steps + 1, 20)):
        values = {name: number + 0.5 * i for i, name in enumerate(VALUES) if number or i != 1}
        learner.add_update(step=step, values=values, learning_rate=1e-3 / (number + 1), wall_time_s=0.1 * number)


WAYS = {
    "hdf5": {"format": "hdf5"},
    "hdf5-archive": {"format": "hdf5", "profile": "archive"},
    "hdf5-compat": {"format": "hdf5", "profile": "compat"},
    "arrow": {"format": "arrow"},
    "arrow-archive": {"format": "arrow", "profile": "archive"},
}
"""Every way in which shards can be written, as a writer's options."""


def small_store(path: Path, *, num_learners: int = 2, way: str = "hdf5", **changes: object) -> hs.Store:
    """Record a few learners into one shard, and open the store."""
    with hs.StoreWriter(create(path), **WAYS[way]) as writer:
        for seed in range(num_learners):
            record(writer, life(seed=seed, **changes))
    return hs.open(path)


def checkpoint(path: Path) -> str:
    """Put a checkpoint of a model of no library into a store; return its name."""
    files = {"policy.safetensors": bytes(range(200))}
    document = CheckpointDocument(
        algorithm="a:A",
        policy=None,
        observation_space={},
        action_space={},
        num_streams=1,
        attributes={},
        left_out={},
        optimizers={},
        files=file_digests(files),
    )
    return write_checkpoint(path, document, files)
