"""A stream takes the memory it was given, however large the store."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from window_stores import provenance, spec_of

from historystore.store import create
from historystore.writer import StoreWriter

MIB = 1 << 20
NUM_LEARNERS, NUM_STEPS, WIDTH = 60, 20_000, 16
HELD_BYTES = NUM_LEARNERS * NUM_STEPS * (4 * WIDTH + 1 + 4 + 1)  # observation, action, reward, a flag
STREAM = """
import sys
import psutil
from torch.utils.data import DataLoader
from historystore.torch import WindowDataset, WindowStream

dataset = WindowDataset(sys.argv[1], context_length=100, cache_bytes=int(sys.argv[2]))
batches = iter(DataLoader(WindowStream(dataset, batch_size=64), batch_size=None))
next(batches)
process = psutil.Process()
start = peak = process.memory_info().rss
num_steps = 6400
for batch in batches:
    num_steps += batch["mask"].numel()
    peak = max(peak, process.memory_info().rss)
print(peak - start, num_steps)
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A store of 80 MiB of steps, in 60 shards."""
    space = gym.spaces.Box(-1e6, 1e6, (WIDTH,), np.float32)
    path = tmp_path_factory.mktemp("stores") / "large"
    store = create(path, family="known", observation_space=space, action_space=gym.spaces.Discrete(5))
    observation = (np.arange(NUM_STEPS * WIDTH).reshape(NUM_STEPS, 1, WIDTH) // 7 % 50).astype(np.float32)
    is_end = np.arange(NUM_STEPS)[:, None] % 20 == 19
    steps = {
        "observation": observation,
        "action": np.zeros((NUM_STEPS, 1), np.int64),
        "reward": np.zeros((NUM_STEPS, 1), np.float32),
        "terminated": np.zeros((NUM_STEPS, 1), bool),
        "truncated": is_end,
    }
    with StoreWriter(store, seal_bytes=MIB) as writer:
        for number in range(NUM_LEARNERS):
            spec = spec_of(number, num_streams=1, num_steps=NUM_STEPS)
            learner = writer.begin(spec, provenance=provenance(None))
            finals, following = {"observation": observation[is_end]}, {"observation": observation[-1]}
            learner.add_steps(steps, final_observations=finals, next_observation=following)
            learner.finish()
    assert len(list((path / "shards").iterdir())) >= 60
    return path


def grown(path, cache_bytes):
    """Bytes by which a process grows over an epoch, after its first batch."""
    how = {"capture_output": True, "text": True, "check": True}
    done = subprocess.run([sys.executable, "-c", STREAM, str(path), str(cache_bytes)], **how)
    growth, num_steps = map(int, done.stdout.split())
    assert num_steps == NUM_LEARNERS * NUM_STEPS
    return growth


def test_a_process_grows_by_its_cache_and_not_by_the_store(path):
    assert grown(path, 8 * MIB) < 24 * MIB < HELD_BYTES / 3


def test_a_process_that_may_hold_the_store_does(path):
    assert grown(path, 1024 * MIB) > 0.6 * HELD_BYTES  # so the other test would see it
