"""What a distilled agent is held against, on stores of which every number is known."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import historystore.store
from distill.references import References, references_of
from historystore.documents import LearnerSpec, Provenance
from historystore.store import Store
from historystore.writer import StoreWriter

EPISODE = 4


def write_learner(writer: StoreWriter, *, task: int, streams: int, returns: np.ndarray, best: float | None) -> None:
    """Record a learner whose episodes (streams, episodes) last four steps and pay their return at the first."""
    num_steps = returns.shape[1] * EPISODE
    reward = np.zeros((num_steps, streams), np.float32)
    reward[::EPISODE] = returns.T
    is_end = np.broadcast_to((np.arange(num_steps) % EPISODE == EPISODE - 1)[:, None], reward.shape)
    spec = LearnerSpec(
        family="known", task={"id": task}, algorithm="A", policy="P", num_streams=streams, num_steps=num_steps * streams
    )
    provenance = Provenance(
        engine="custom", engine_version="0", algorithm_path="a", environment="e", host="h", best_return=best
    )
    learner = writer.begin(spec, provenance=provenance)
    zeros = np.zeros(reward.shape, np.int64)
    learner.add_steps(
        {"observation": zeros, "action": zeros, "reward": reward, "terminated": is_end, "truncated": zeros > 0},
        final_observations={"observation": np.zeros(int(is_end.sum()), np.int64)},
        next_observation={"observation": np.zeros(streams, np.int64)},
    )
    learner.finish()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    spaces = {"observation_space": gym.spaces.Discrete(1), "action_space": gym.spaces.Discrete(2)}
    with StoreWriter(historystore.store.create(tmp_path / "store", family="known", **spaces)) as writer:
        write_learner(writer, task=0, streams=1, returns=np.arange(20.0)[None], best=30.0)
        both = np.stack([np.arange(10.0) * 10, np.arange(10.0) * 10 + 2])
        write_learner(writer, task=1, streams=2, returns=both, best=None)
    return historystore.store.open(tmp_path / "store")


def test_the_source_is_read_off_at_the_same_number_of_environment_steps(store: Store) -> None:
    references = references_of([store], steps_per_point=EPISODE)
    env_steps = np.array([4.0, 8.0, 12.0, 40.0, 80.0, 84.0])
    one_stream, two_streams = references.source_at([{"id": 0}, {"id": 1}], env_steps)
    np.testing.assert_array_equal(one_stream, [0, 1, 2, 9, 19, np.nan])
    # Two streams live eight environment steps in their first episodes, so both points show those.
    np.testing.assert_array_equal(two_streams, [1, 1, 11, 41, 91, np.nan])


def test_where_the_source_ended_and_what_bounds_it(store: Store) -> None:
    references = references_of([store])
    rows = references.rows([{"id": 0}, {"id": 1}])
    np.testing.assert_allclose(references.source_last[rows], [np.arange(10.0, 20.0).mean(), 46.0])
    np.testing.assert_array_equal(references.best[rows], [30.0, np.nan])
    assert np.isnan(references.random).all()


def test_learners_of_one_task_are_averaged(store: Store) -> None:
    with StoreWriter(historystore.store.open(store.path, mode="a")) as writer:
        write_learner(writer, task=0, streams=1, returns=np.arange(4.0)[None] + 10, best=30.0)
    references = references_of([historystore.store.open(store.path)], steps_per_point=EPISODE)
    (curve,) = references.source_at([{"id": 0}], np.arange(1.0, 7.0) * EPISODE)
    np.testing.assert_allclose(curve, [5, 6, 7, 8, 4, 5])


def test_references_round_trip_through_their_file(store: Store, tmp_path: Path) -> None:
    references = references_of([store])
    references.write(tmp_path / "reference.safetensors")
    read = References.read(tmp_path / "reference.safetensors")
    assert (read.tasks, read.steps_per_point) == (references.tasks, references.steps_per_point)
    for name in ("source_returns", "source_last", "best", "random"):
        np.testing.assert_allclose(getattr(read, name), getattr(references, name), rtol=1e-6)
