"""Windows a second from disk with little memory, against other layouts' way: `python tests/benchmarks/disk_windows.py`.

Every contestant gives batches of 128 random windows of observation, action and reward, in one process and one thread:

- HDF5 and Arrow stores at random, and streamed (`WindowStream`), with a cache of a sixteenth of the steps;
- the XLand way: one gzip-6 HDF5 file, and a window reads its whole history;
- the Minari way: a dataset of the Minari package, whose episodes a window puts together. It holds fewer steps, for it
  takes a kilobyte for each; that can only help it.

Cold: before each measurement every file is dropped from the page cache. Warm: right after it. As root on a machine with
control groups, the memory of the process, page cache included, is held to what it needs by itself plus `--memory-mb`,
and so far below the store. By the clock, for waiting for the disk is what this is about; medians over rounds.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from windows import BATCH, EPISODE, XLandWay, endless, make_histories, write_store, write_xland

from historystore.exchange import iter_exported
from historystore.store import Store
from historystore.torch import WindowDataset, WindowStream

STEP_BYTES = 19
"""Of the three fields in memory."""
GROUPS = Path("/sys/fs/cgroup/memory")


class MinariWay(Dataset):
    """Consecutive episodes of one learner, joined."""

    def __init__(self, path: Path, learners: int, steps: int, length: int) -> None:
        from minari import MinariDataset

        self.dataset = MinariDataset(path / "data")
        episodes = steps // EPISODE
        wanted = -(-length // EPISODE)
        generator = np.random.default_rng(0)
        self.firsts = generator.integers(0, learners, 100_000) * episodes
        self.firsts += generator.integers(0, episodes - wanted, 100_000)
        self.length, self.wanted = length, wanted

    def __len__(self) -> int:
        return len(self.firsts)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        first = int(self.firsts[index])
        episodes = list(self.dataset.iterate_episodes(range(first, first + self.wanted)))
        columns = {
            "observation": [episode.observations[:-1] for episode in episodes],
            "action": [episode.actions for episode in episodes],
            "reward": [episode.rewards for episode in episodes],
        }
        return {name: np.concatenate(parts)[: self.length] for name, parts in columns.items()}


def contestants(folder: Path, arguments: argparse.Namespace) -> dict[str, Callable[[], Iterator[object]]]:
    histories = make_histories(arguments.learners, arguments.steps)
    hdf5 = write_store(folder / "hdf5", histories)
    arrow = write_store(folder / "arrow", histories, format="arrow")
    write_xland(folder / "xland.h5", histories)
    few = [{name: column[: arguments.minari_steps] for name, column in history.items()} for history in histories[:4]]
    for _ in iter_exported(write_store(folder / "few", few).path, folder / "few-v0", to="minari"):
        pass
    generator = np.random.default_rng(0)
    starts = np.stack(
        [generator.integers(0, len(histories), 100_000), generator.integers(0, arguments.steps - 80, 100_000)], axis=1
    )
    cache = arguments.learners * arguments.steps * STEP_BYTES // 16

    def whole(store: Store) -> Iterator[object]:
        dataset = WindowDataset(store, context_length=arguments.length, num_windows=1_000_000, cache_bytes=cache)
        return endless(lambda: iter(DataLoader(dataset, sampler=dataset.batches(BATCH), batch_size=None)))

    def streamed(store: Store) -> Iterator[object]:
        stream = WindowStream(
            WindowDataset(store, context_length=arguments.length, cache_bytes=cache), batch_size=BATCH
        )
        return endless(lambda: iter(DataLoader(stream, batch_size=None)))

    def items(dataset: Dataset) -> Iterator[object]:
        return endless(lambda: iter(DataLoader(dataset, batch_size=BATCH)))

    return {
        "HDF5 store, at random": lambda: whole(hdf5),
        "HDF5 store, streamed": lambda: streamed(hdf5),
        "Arrow store, at random": lambda: whole(arrow),
        "Arrow store, streamed": lambda: streamed(arrow),
        "XLand way": lambda: items(XLandWay(folder / "xland.h5", starts, arguments.length)),
        "Minari way": lambda: items(MinariWay(folder / "few-v0", len(few), arguments.minari_steps, arguments.length)),
    }


def drop_from_page_cache(folder: Path) -> None:
    """Write everything out and forget it."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory_capped(num_bytes: int) -> str:
    """Hold this process's memory to what it has now and some bytes; say whether that was possible."""
    group = GROUPS / f"historystore-{os.getpid()}"
    try:
        group.mkdir()
        (group / "tasks").write_text(str(os.getpid()))
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        (group / "memory.limit_in_bytes").write_text(str(resident + num_bytes))
    except OSError as error:
        return f"memory is not capped ({(error.strerror or 'no control group').lower()})"
    return f"memory capped at {(resident + num_bytes) >> 20} MiB, {num_bytes >> 20} MiB beyond the bare process"


def windows_a_second(batches: Iterator[object], seconds: float) -> float:
    num_batches, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or not num_batches:
        next(batches)
        num_batches += 1
    return num_batches * BATCH / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, default=500)
    parser.add_argument("--steps", type=int, default=40_000, help="of each learner's one history")
    parser.add_argument("--minari-steps", type=int, default=10_000, help="of each of 4 learners")
    parser.add_argument("--length", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--memory-mb", type=int, default=96)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        makers = contestants(folder, arguments)
        sizes = {path.name: sum(f.stat().st_size for f in path.rglob("*.*")) >> 20 for path in folder.iterdir()}
        print(f"{arguments.learners * arguments.steps:,} steps; MiB on disk: {sizes}")
        print(memory_capped(arguments.memory_mb << 20))
        rates: dict[str, dict[str, list[float]]] = {name: {"cold": [], "warm": []} for name in makers}
        for _, (name, make) in itertools.product(range(arguments.rounds), makers.items()):
            drop_from_page_cache(folder)
            batches = make()
            for state in ("cold", "warm"):
                rates[name][state].append(windows_a_second(batches, arguments.seconds))
    medians = {name: {state: statistics.median(each) for state, each in both.items()} for name, both in rates.items()}
    print(f"{'windows/s':26}{'cold':>10}{'warm':>10}{'x XLand way':>14}{'':>10}")
    for name, both in medians.items():
        ratios = [both[state] / medians["XLand way"][state] for state in ("cold", "warm")]
        print(f"{name:26}{both['cold']:10,.0f}{both['warm']:10,.0f}{ratios[0]:14.1f}{ratios[1]:10.1f}")


if __name__ == "__main__":
    main()
