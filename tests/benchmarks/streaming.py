"""Windows a second from a store larger than the cache, streamed and at random: `python tests/benchmarks/streaming.py`.

Both give the same fields in batches of 128, in one process and one thread, from a warm disk, with the same cache. They
alternate; printed are medians over rounds, by CPU time, which other work on the machine disturbs less than the clock.
"Blocks" is how many blocks of steps were read and decompressed for each that lies in the store, over an epoch.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from windows import BATCH, make_histories, windows_a_second, write_store

from historystore.store import Store
from historystore.torch import WindowDataset, WindowStream


def random_batches(dataset: WindowDataset) -> Iterator[object]:
    for epoch in itertools.count():
        dataset.set_epoch(epoch)
        yield from DataLoader(dataset, sampler=dataset.batches(BATCH), batch_size=None)


def streamed_batches(dataset: WindowDataset) -> Iterator[object]:
    stream = WindowStream(dataset, batch_size=BATCH)
    for epoch in itertools.count():
        stream.set_epoch(epoch)
        yield from DataLoader(stream, batch_size=None)


def contestants(store: Store, length: int, cache_bytes: int) -> dict[str, Iterator[object]]:
    def windows(**options: object) -> WindowDataset:
        return WindowDataset(store, context_length=length, cache_bytes=cache_bytes, **options)

    strides = {"episode_stride": (4, 8)}
    return {
        "at random": random_batches(windows()),
        "streamed": streamed_batches(windows()),
        "at random, strides 4 to 8": random_batches(windows(**strides)),
        "streamed, strides 4 to 8": streamed_batches(windows(**strides)),
    }


def block_reads(batches: Iterator[object], dataset: WindowDataset, num_batches: int) -> float:
    """Return how often each block was read."""
    reader, reads = dataset.reader, []
    read_block = reader._read_block
    reader._read_block = lambda block: reads.append(block) or read_block(block)
    for _ in range(num_batches):
        next(batches)
    return len(reads) / reader.layout.num_blocks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learners", type=int, default=200)
    parser.add_argument("--steps", type=int, default=40_000, help="of each learner's one history")
    parser.add_argument("--length", type=int, default=80)
    parser.add_argument("--share", type=float, default=0.1, help="of the store that the cache holds")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each contestant in each round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    histories = make_histories(arguments.learners, arguments.steps)
    num_steps = arguments.learners * arguments.steps
    cache_bytes = int(num_steps * 8 * arguments.share)  # observation, action, reward and a flag as they are held
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "store", histories)
        loaders = contestants(store, arguments.length, cache_bytes)
        rates: dict[str, list[float]] = {name: [] for name in loaders}
        for batches in loaders.values():
            windows_a_second(batches, arguments.seconds)
        for _ in range(arguments.rounds):
            for name, batches in loaders.items():
                rates[name].append(windows_a_second(batches, arguments.seconds))
        dataset = WindowDataset(store, context_length=arguments.length, cache_bytes=cache_bytes)
        num_batches = len(dataset) // BATCH
        reads = {
            name: block_reads(batches(dataset), dataset, num_batches)
            for name, batches in (("at random", random_batches), ("streamed", streamed_batches))
        }
    shuffle = WindowStream(dataset, batch_size=BATCH).orders[0].shuffle
    medians = {name: statistics.median(each) for name, each in rates.items()}
    print(f"{num_steps:,} steps, windows of {arguments.length}, batches of {BATCH}, a cache of {cache_bytes >> 20} MiB")
    places = shuffle.num_groups * shuffle.num_rounds
    print(f"streamed from {places} places at a time, of {shuffle.group_windows} windows each")
    print(f"{'':32}{'windows/s':>12}{'x at random':>13}{'blocks':>9}")
    for name, median in medians.items():
        ratio = median / medians["at random" + name.removeprefix("at random").removeprefix("streamed")]
        blocks = f"{reads[name]:9.2f}" if name in reads else ""
        print(f"{name:32}{median:12,.0f}{ratio:13.1f}{blocks}")


if __name__ == "__main__":
    main()
