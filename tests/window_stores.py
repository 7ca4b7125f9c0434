"""Stores whose every value is known: what the tests of windows read."""

import gymnasium as gym
import numpy as np
from store_samples import WAYS

from historystore.documents import LearnerSpec, Provenance
from historystore.store import create
from historystore.writer import StoreWriter

OBSERVATION_SPACE = gym.spaces.Dict(
    {
        "place": gym.spaces.MultiDiscrete([9, 9]),
        "time": gym.spaces.Box(-1e6, 1e6, (3,), np.float32),
    }
)
ACTION_SPACE = gym.spaces.Discrete(5)


def spec_of(number, *, num_streams, num_steps, task=None):
    return LearnerSpec(
        family="known",
        task={"goal": number} if task is None else task,
        algorithm="PPO",
        policy="MlpPolicy",
        num_streams=num_streams,
        num_steps=num_steps,
        seed=number,
    )


def provenance(best_return):
    return Provenance(
        engine="custom",
        engine_version="1",
        algorithm_path="nowhere",
        environment="known",
        host="here",
        best_return=best_return,
        random_return=0.0,
    )


def steps_of(number, sizes, *, seed=0):
    """Steps of streams with episodes of given sizes: what each holds says learner, stream and step.

    `sizes` is a list of episode lengths for each stream, all of the same sum; a stream's last episode is cut if its
    length is negative.
    """
    generator = np.random.default_rng((seed, number))
    num_steps = sum(map(abs, sizes[0]))
    shape = (num_steps, len(sizes))
    time, stream = np.indices(shape)
    ends = np.zeros(shape, dtype=bool)
    for i, each in enumerate(sizes):
        stops = np.cumsum(np.abs(each))
        ends[stops[np.array(each) > 0] - 1, i] = True
    is_truncated = generator.random(shape) < 0.5
    return {
        "observation/place": generator.integers(0, 9, (*shape, 2)),
        "observation/time": np.stack([np.full(shape, number), stream, time], axis=-1).astype(np.float32),
        "action": generator.integers(0, 5, shape),
        "reward": generator.random(shape).astype(np.float32),
        "terminated": ends & ~is_truncated,
        "truncated": ends & is_truncated,
    }


def add(writer, number, sizes, *, block=7, best_return=None, extra=None, task=None):
    """Write one learner, some steps at a time."""
    steps = steps_of(number, sizes) | (extra or {})
    num_steps = len(steps["reward"])
    spec = spec_of(number, num_streams=len(sizes), num_steps=num_steps * len(sizes), task=task)
    learner = writer.begin(spec, provenance=provenance(best_return))
    names = [name for name in steps if name.startswith("observation")]
    for start in range(0, num_steps, block):
        part = {name: column[start : start + block] for name, column in steps.items()}
        is_end = part["terminated"] | part["truncated"]
        finals = {name: part[name][is_end] for name in names}
        following = {name: part[name][-1] for name in names}
        learner.add_steps(part, final_observations=finals, next_observation=following)
    learner.finish()
    return spec


def make_store(path, learners, *, seal_bytes=1 << 26, way="hdf5", **arguments):
    """Make a store of learners, each a list of streams' episode sizes; small `seal_bytes` make many shards."""
    store = create(path, family="known", observation_space=OBSERVATION_SPACE, action_space=ACTION_SPACE)
    with StoreWriter(store, seal_bytes=seal_bytes, **WAYS[way]) as writer:
        for number, sizes in enumerate(learners):
            add(writer, number, sizes, **arguments)
    store.refresh()
    return store
