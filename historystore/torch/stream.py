"""Windows as a stream, from stores of any size: one order, whoever reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch.utils.data import IterableDataset, get_worker_info

from historystore.documents import sha256_hex
from historystore.errors import InvalidValue, SpaceMismatch
from historystore.torch.dataset import WindowDataset, checked_seed
from historystore.torch.state import StreamState, WorkerState, stream_state
from historystore.windows import Mixture, StreamOrder
from historystore.windows.reading import check_spaces

EPOCH, START, HAS_WORKERS = range(3)
"""What the processes share: the epoch, the sample with which an iteration begins, whether workers read."""


class WindowStream(IterableDataset[dict[str, torch.Tensor]]):
    """Batches of windows from stores larger than memory, in an order that reads them piece by piece.

    Takes its windows, their fields and its memory from a `WindowDataset`, or mixes several by weight, and gives whole
    batches as that dataset's `batches` do::

        stream = WindowStream(WindowDataset(store, cache_bytes=256 << 20), batch_size=128)
        loader = DataLoader(stream, batch_size=None, num_workers=2)
        for epoch in range(stream.epoch, 10):
            stream.set_epoch(epoch)
            for batch in loader: ...

    **Order.** A sample is one window. A pass over a dataset holds `len(dataset)` windows, spread evenly over all that
    it may draw, each once. They are shuffled as `historystore.windows.shuffle.Shuffle` says: at any time they come from
    as many random places of the store as fit the dataset's `cache_bytes` (on Dark Room 200 places, 6 million steps, in
    256 MiB), and each block of steps is decompressed about once a pass and process. Sample `k` of an epoch is a
    function of the seed, the epoch and `k`, for given datasets; not of workers, ranks or batches. Other `cache_bytes`,
    or the store packed into other shards, make another order; what fits `cache_bytes` is
    shuffled all at once.

    **Epochs.** An epoch is `num_windows` samples, by default one pass, or with several datasets as many as a pass over
    each holds together. Every sample is from the datasets in proportion to their weights, to within one in any 1024.
    Each dataset goes on where the epoch before left it: a small one comes round several times in an epoch, each time
    drawn and shuffled anew, and of a large one no window comes again before all others came.

    **Ranks and workers.** Each step takes the next `batch_size * num_ranks` samples: rank 0 the first `batch_size` of
    them, rank 1 the following. The last step of an epoch may be smaller; it is shared evenly, and some ranks get none
    of fewer samples than ranks, unless `drop_last` leaves the step out. Workers take a rank's batches in turn, which is
    how a DataLoader asks for them, so batches come in the same order with any number of workers. Each worker, of each
    rank, takes its own `cache_bytes` and reads all blocks: a second one speeds up only the rest.

    **Resuming.** The state is the number of samples that all ranks are through with, so it fits other batches, ranks
    and workers. StatefulDataLoader of torchdata saves and loads it by itself, for the same number of workers and the
    same batches. Its state also loads by `stream.load_state_dict(loader_state)` before a new loader is made, with
    other numbers. With a plain DataLoader, `state_dict(num_batches=n)` is the state after `n` batches of an iteration.
    An iteration begins at the sample that was loaded until `set_epoch` names another epoch.

    Args:
        datasets: what to draw from; several must agree on fields, context length and spaces.
        batch_size: samples of a batch, for each rank.
        weights: of the datasets; by default in proportion to their windows.
        num_windows: samples of an epoch.
        seed: of the order and of the windows; those of the datasets are not used.
        rank: of this process; by default torch.distributed's, where that is initialised.
        num_ranks: how many there are.
        drop_last: whether to leave out an epoch's last step where it is smaller than the others.

    Raises:
        InvalidValue: an argument is not acceptable; says why.
        SpaceMismatch: the datasets differ in what they read.
    """

    def __init__(
        self,
        datasets: WindowDataset | Sequence[WindowDataset],
        *,
        batch_size: int,
        weights: Sequence[float | int] | None = None,
        num_windows: int | None = None,
        seed: int = 0,
        rank: int | None = None,
        num_ranks: int | None = None,
        drop_last: bool = False,
    ) -> None:
        self.datasets = [datasets] if isinstance(datasets, WindowDataset) else list(datasets)
        sizes = [len(dataset) for dataset in self.datasets]
        _check_alike(self.datasets)
        self.mixture = _mixture(sizes, weights, seed=checked_seed(seed))
        self.orders = [
            StreamOrder(it.sampler, it.reader, num_windows=len(it), seed=seed, source=i)
            for i, it in enumerate(self.datasets)
        ]
        self.batch_size = batch_size
        self.num_windows = sum(sizes) if num_windows is None else num_windows
        self.rank, self.num_ranks = _rank(rank, num_ranks)
        self.drop_last = drop_last
        if batch_size < 1 or self.num_windows < 1 or not 0 <= self.rank < self.num_ranks:
            raise InvalidValue(
                "stream: expected batch_size >= 1, num_windows >= 1 and 0 <= rank < num_ranks, got "
                f"{batch_size}, {self.num_windows} and {self.rank} of {self.num_ranks}. Correct them."
            )
        self._order = ""
        self._shared = torch.zeros(3, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._next: tuple[int, int] | None = None  # the epoch and sample that this process turns to next
        self._resumed: tuple[int, int] | None = None  # the same, for the next iteration of this worker alone

    @property
    def epoch(self) -> int:
        """The epoch of the next iteration."""
        return int(self._shared[EPOCH])

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; in the present one, stay where it was resumed. Living workers see it too."""
        if epoch < 0:
            raise InvalidValue(f"stream: epoch is not a whole number from 0 up, got {epoch}. Count from 0.")
        if epoch != self.epoch:
            self._go_to(epoch, 0)

    def __len__(self) -> int:
        """Return how many batches a whole epoch has for this rank, however few are left of a resumed one."""
        steps = self._steps(0)
        return len(steps) - any(not self._share(start) for start in steps[-1:])

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        worker, num_workers = _worker()
        if get_worker_info() is not None:
            self._shared[HAS_WORKERS] = 1
        epoch, start = self.epoch, int(self._shared[START]) + worker * self._step_samples
        if self._resumed is not None:
            (epoch, start), self._resumed = self._resumed, None
        self._next = epoch, min(start, self.num_windows)
        return self._batches(epoch, start, num_workers)

    def state_dict(self, *, num_batches: int | None = None) -> dict[str, Any]:
        """Return how far the stream has come, as plain numbers; the same for all ranks.

        `num_batches` says after how many batches of the iteration; without it, after those that this process read.

        Raises:
            InvalidValue: workers read and `num_batches` is not given: only the loader knows how many it handed on.
        """
        if get_worker_info() is not None:
            return self._worker_state().model_dump()
        epoch, sample = self._next or (self.epoch, int(self._shared[START]))
        if num_batches is not None:
            epoch, sample = self.epoch, int(self._shared[START]) + num_batches * self._step_samples
        elif self._shared[HAS_WORKERS]:
            raise InvalidValue(
                "stream: windows were read by workers, whose batches are counted by their consumer. Give num_batches, "
                "those of this iteration so far, or use torchdata's StatefulDataLoader and its state_dict()."
            )
        state = StreamState(epoch=epoch, sample=min(sample, self.num_windows), order=self._order_digest())
        return state.model_dump()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where a state was taken, that of the stream or of a StatefulDataLoader over it.

        Raises:
            InvalidValue: it is the state of another order of samples, or of no stream.
        """
        state = stream_state(state_dict, num_windows=self.num_windows)
        if state.order != self._order_digest():
            raise InvalidValue(
                "stream: the state is of another order of samples. Give the same stores, in the same shards, the same "
                "windows, cache_bytes, weights, num_windows and seed; batches, ranks and workers may differ."
            )
        if get_worker_info() is None:
            self._go_to(state.epoch, state.sample)
            return
        mine = self._worker_state()
        if (state_dict.get("num_workers"), state_dict.get("step_samples")) != (mine.num_workers, mine.step_samples):
            raise InvalidValue(
                f"stream: the loader's state is of {state_dict.get('num_workers')} workers and "
                f"{state_dict.get('step_samples')} samples a step, expected {mine.num_workers} and "
                f"{mine.step_samples}. Load it into the stream itself, before a new loader is made."
            )
        self._resumed = state.epoch, state.sample

    @property
    def _step_samples(self) -> int:
        """Samples of one batch of all ranks."""
        return self.batch_size * self.num_ranks

    def _steps(self, start: int, *, num_workers: int = 1) -> range:
        """Return the first samples of the steps that one of some workers takes."""
        stop = self.num_windows - (self._step_samples - 1) * self.drop_last
        return range(start, stop, self._step_samples * num_workers)

    def _share(self, start: int) -> range:
        """Return this rank's samples of the step that begins with a sample."""
        size = min(self._step_samples, self.num_windows - start)
        low, high = (start + size * rank // self.num_ranks for rank in (self.rank, self.rank + 1))
        return range(low, high)

    def _batches(self, epoch: int, start: int, num_workers: int) -> Iterator[dict[str, torch.Tensor]]:
        for first in self._steps(start, num_workers=num_workers):
            self._next = epoch, min(first + self._step_samples * num_workers, self.num_windows)
            if share := self._share(first):
                yield self._read(epoch * self.num_windows + share.start, epoch * self.num_windows + share.stop)
        if get_worker_info() is None:
            self._next = epoch + 1, 0

    def _read(self, start: int, stop: int) -> dict[str, torch.Tensor]:
        """Read samples, counted over all epochs."""
        sources, before = self.mixture.dealt(start, stop)
        counts = np.bincount(sources, minlength=len(self.datasets))
        parts = {
            i: self.datasets[i].read(self.orders[i].windows(int(before[i]), int(before[i] + counts[i])))
            for i in np.flatnonzero(counts).tolist()
        }
        if len(parts) == 1:
            return next(iter(parts.values()))
        joined = {name: torch.cat([part[name] for part in parts.values()]) for name in parts[int(sources[0])]}
        by_source = torch.from_numpy(np.argsort(sources, kind="stable"))
        return {name: torch.empty_like(value).index_copy_(0, by_source, value) for name, value in joined.items()}

    def _go_to(self, epoch: int, start: int) -> None:
        self._shared.copy_(torch.tensor([epoch, start, 0]))
        self._next = None

    def _worker_state(self) -> WorkerState:
        epoch, sample = self._next or (self.epoch, int(self._shared[START]))
        return WorkerState(
            epoch=epoch,
            sample=sample,
            order=self._order_digest(),
            num_workers=_worker()[1],
            step_samples=self._step_samples,
        )

    def _order_digest(self) -> str:
        """Return a digest of all that the order depends on; worked out once in each process that asks."""
        if not self._order:
            settings = repr((self.num_windows, self.mixture.share_before.tolist()))
            self._order = sha256_hex(" ".join((settings, *(order.digest() for order in self.orders))).encode())
        return self._order


def _check_alike(datasets: Sequence[WindowDataset]) -> None:
    """Refuse to mix what would not fit in one batch, or one model."""
    if not datasets:
        raise InvalidValue("stream: there is no dataset to read. Give one at least.")
    check_spaces([store for dataset in datasets for store in dataset.reader.stores])
    expected, *others = [_layout(dataset) for dataset in datasets]
    for got in others:
        if got != expected:
            raise SpaceMismatch(
                f"stream: the datasets read different windows, expected {expected}, got {got}. "
                "Give all the same fields and context_length."
            )


def _layout(dataset: WindowDataset) -> str:
    """Return what a window of a dataset is, in words."""
    fields = (f"{field.name} {field.dtype} {field.shape}" for field in dataset.reader.fields)
    return f"{dataset.context_length} steps of {', '.join((*fields, *dataset.reader.positions))}"


def _mixture(sizes: Sequence[int], weights: Sequence[float | int] | None, *, seed: int) -> Mixture:
    if weights is not None and len(weights) != len(sizes):
        raise InvalidValue(
            f"stream: weights are not one a dataset, expected {len(sizes)}, got {len(weights)}. Give as many."
        )
    return Mixture.of(sizes if weights is None else weights, seed=seed)


def _rank(rank: int | None, num_ranks: int | None) -> tuple[int, int]:
    """Return this process's rank and how many there are."""
    if rank is None and num_ranks is None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return rank or 0, 1 if num_ranks is None else num_ranks


def _worker() -> tuple[int, int]:
    """Return which worker of a DataLoader this process is, and of how many."""
    info = get_worker_info()
    return (0, 1) if info is None else (info.id, info.num_workers)
