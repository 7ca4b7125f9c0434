"""Windows a second from a store, against two ways of reading them, in one run: `python tests/benchmarks/windows.py`.

- the XLand way: one gzip-6 HDF5 file, a group for each learner, a dataset a field; a window reads its whole history.
- the DICP way: everything in memory, an array a field and history, a slice for each item, and PyTorch's own collate.

All give int64 observations (2 numbers), int64 actions and float32 rewards in batches of 128, in one process and one
thread, from a warm disk. Contestants alternate; printed are medians over rounds, by CPU time, which other work on the
machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium as gym
import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import historystore.store
from historystore.documents import LearnerSpec
from historystore.store import Store
from historystore.torch import WindowDataset
from historystore.writer import StoreWriter

BATCH = 128
EPISODE = 20
COLUMNS = ("observation", "action", "reward")


def make_histories(num_learners: int, num_steps: int) -> list[dict[str, np.ndarray]]:
    """Random walks on a 9x9 grid, with a goal for each learner."""
    generator = np.random.default_rng(0)
    histories = []
    for _ in range(num_learners):
        action = generator.integers(0, 5, num_steps)
        moves = np.array([[0, 0], [0, 1], [0, -1], [1, 0], [-1, 0]])[action].reshape(-1, EPISODE, 2)
        place = np.clip(4 + np.cumsum(moves, axis=1) - moves, 0, 8).reshape(-1, 2)
        reward = (place == generator.integers(0, 9, 2)).all(axis=1).astype(np.float32)
        histories.append({"observation": place, "action": action, "reward": reward})
    return histories


def write_store(path: Path, histories: list[dict[str, np.ndarray]], **way: str) -> Store:
    store = historystore.store.create(
        path,
        family="walk",
        observation_space=gym.spaces.MultiDiscrete([9, 9]),
        action_space=gym.spaces.Discrete(5),
    )
    with StoreWriter(store, **way) as writer:
        for seed, history in enumerate(histories):
            num_steps = len(history["action"])
            spec = LearnerSpec(
                family="walk", algorithm="random", policy="none", num_streams=1, num_steps=num_steps, seed=seed
            )
            is_end = np.arange(num_steps) % EPISODE == EPISODE - 1
            steps = {name: column[:, None] for name, column in history.items()}
            steps |= {"terminated": np.zeros((num_steps, 1), bool), "truncated": is_end[:, None]}
            learner = writer.begin(spec)
            finals = history["observation"][is_end]
            learner.add_steps(
                steps, final_observations={"observation": finals}, next_observation={"observation": finals[-1:]}
            )
            learner.finish()
    return historystore.store.open(path)


def write_xland(path: Path, histories: list[dict[str, np.ndarray]]) -> None:
    with h5py.File(path, "w") as file:
        for number, history in enumerate(histories):
            for name, column in history.items():
                stored = column.astype(np.float16 if name == "reward" else np.uint8)
                file.create_dataset(f"{number}/{name}", data=stored[None], compression="gzip", compression_opts=6)


class XLandWay(Dataset):
    def __init__(self, path: Path, starts: np.ndarray, length: int) -> None:
        self.file, self.starts, self.length = h5py.File(path), starts, length

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        learner, start = self.starts[index]
        group = self.file[str(learner)]
        dtypes = {"observation": np.int64, "action": np.int64, "reward": np.float32}
        return {name: group[name][0][start : start + self.length].astype(dtypes[name]) for name in COLUMNS}


class DicpWay(Dataset):
    def __init__(self, histories: list[dict[str, np.ndarray]], starts: np.ndarray, length: int) -> None:
        self.histories, self.starts, self.length = histories, starts.tolist(), length

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        learner, start = self.starts[index]
        history = self.histories[learner]
        return {name: history[name][start : start + self.length] for name in COLUMNS}


def endless(loader: Callable[[], Iterator[object]]) -> Iterator[object]:
    return itertools.chain.from_iterable(loader() for _ in itertools.count())


def windows_a_second(batches: Iterator[object], seconds: float) -> float:
    num_batches, start = 0, time.process_time()
    while (elapsed := time.process_time() - start) < seconds:
        next(batches)
        num_batches += 1
    return num_batches * BATCH / elapsed


def contestants(folder: Path, histories: list[dict[str, np.ndarray]], length: int) -> dict[str, Iterator[object]]:
    store, num_steps = write_store(folder / "store", histories), len(histories[0]["action"])
    mapped = write_store(folder / "mapped", histories, format="arrow")
    write_xland(folder / "xland.h5", histories)
    generator = np.random.default_rng(0)
    starts = np.stack(
        [generator.integers(0, len(histories), 200_000), generator.integers(0, num_steps - length, 200_000)], axis=1
    )

    def whole(store: Store = store, **options: object) -> Iterator[object]:
        dataset = WindowDataset(store, context_length=length, num_windows=1_000_000, **options)
        return endless(lambda: iter(DataLoader(dataset, sampler=dataset.batches(BATCH), batch_size=None)))

    def items(dataset: Dataset) -> Iterator[object]:
        return endless(lambda: iter(DataLoader(dataset, batch_size=BATCH)))

    slices = DicpWay(histories, starts, length)
    return {
        "store": whole(),
        "store, strides 4 to 8": whole(episode_stride=(4, 8)),
        "store, strides 4 to 8, spliced": whole(episode_stride=(4, 8), splice=True),
        "store, cache of a tenth": whole(cache_bytes=len(histories) * num_steps * 8 // 10),
        "Arrow store, memory-mapped": whole(mapped),
        "Arrow store, strides 4 to 8": whole(mapped, episode_stride=(4, 8)),
        "store, item by item": items(WindowDataset(store, context_length=length, num_windows=1_000_000)),
        "XLand way": items(XLandWay(folder / "xland.h5", starts, length)),
        "DICP way": items(slices),
        "DICP way, slices alone": endless(
            lambda: ([slices[i] for i in range(j, j + BATCH)] for j in range(0, len(slices) - BATCH, BATCH))
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, default=200)
    parser.add_argument("--steps", type=int, default=40_000, help="of each learner's one history")
    parser.add_argument("--length", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each contestant in each round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    histories = make_histories(arguments.learners, arguments.steps)
    with tempfile.TemporaryDirectory() as folder:
        loaders = contestants(Path(folder), histories, arguments.length)
        rates: dict[str, list[float]] = {name: [] for name in loaders}
        for batches in loaders.values():
            windows_a_second(batches, arguments.seconds)
        for _ in range(arguments.rounds):
            for name, batches in loaders.items():
                rates[name].append(windows_a_second(batches, arguments.seconds))
    medians = {name: statistics.median(each) for name, each in rates.items()}
    print(
        f"{arguments.learners} histories of {arguments.steps} steps, windows of {arguments.length}, batches of {BATCH}"
    )
    print(f"{'':32}{'windows/s':>12}{'steps/s':>12}{'x XLand way':>13}{'x DICP way':>12}")
    for name, median in medians.items():
        ratios = f"{median / medians['XLand way']:13.1f}{median / medians['DICP way']:12.2f}"
        print(f"{name:32}{median:12,.0f}{median * arguments.length:12,.0f}{ratios}")


if __name__ == "__main__":
    main()
