"""Windows by number: any of an epoch at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

import historystore.store
from historystore.errors import InvalidValue
from historystore.splits import DEFAULT_RATIOS, Task, split_tasks
from historystore.store import Store
from historystore.windows import (
    DEFAULT_CACHE_BYTES,
    DEFAULT_FIELDS,
    AddressBatch,
    Histories,
    Predicate,
    WindowReader,
    WindowSampler,
    selected_histories,
    tasks_of,
    window_draws,
)

Source: TypeAlias = Store | str | os.PathLike[str]


class WindowRange(NamedTuple):
    """The windows `start` to `stop` of an epoch: what the samplers of `WindowDataset.batches` hand to it."""

    epoch: int
    start: int
    stop: int


class WindowDataset(Dataset[dict[str, torch.Tensor]]):
    """Windows of `context_length` steps across the episodes of histories, as tensors by field name.

    Window `i` of an epoch is a function of `seed`, the epoch and `i`, and of what the stores hold; not of the batch it
    is read in, of workers or of what was read before. So any place in any epoch can be read at once, and shuffling
    changes nothing but the order.

    An item holds each field as (context_length, *shape) in its own dtype, and two flags: `episode_start`, and `mask`,
    False in the padding at the end of a window whose history is too short. The previous action and reward of a position
    are those of the position before it; the first position has none.

    `DataLoader(dataset, batch_size=128)` works. Whole batches are several times faster, for nothing is stacked twice::

        DataLoader(dataset, sampler=dataset.batches(128), batch_size=None, num_workers=2)

    Files are opened, and up to `cache_bytes` of steps kept, in each worker for itself, forked or spawned. Windows come
    from anywhere in the stores: where these are larger than the cache, a `WindowStream` is many times faster.

    Args:
        stores: a store, or several to read together: opened, or paths of stores or of single shards.
        context_length: steps of a window.
        fields: names of fields, of groups of them (`observation` for all `observation/...`), or `history`, `step` and
            `learner`, which say where each position comes from.
        episode_stride: keep every k-th episode; for (lo, hi) each window draws its own k.
        from_start: the share of windows that open a history.
        splice: go on, episode after episode, in a stream of the same learner drawn at random.
        balance: what is drawn evenly: `steps`, `histories` or `tasks`.
        history_part: only from this part of each history's episodes: (0.9, 1.0) for the last tenth.
        tasks: only learners of these tasks.
        split: only the tasks of this part of `split_tasks` over the stores' tasks: train, validation or test.
        split_seed: the seed of that split.
        split_ratios: its ratios.
        min_progress: only learners whose last episodes reached this share of their task's best return.
        where: only learners of which this function is true, or this expression, such as "return_last > 14"
            (`historystore.learner_columns` lists what it may name).
        num_windows: windows of an epoch; by default as many as hold the selected steps once.
        seed: of the windows.
        cache_bytes: memory for decompressed steps, in each process.

    Raises:
        InvalidValue: an argument is not acceptable, or no learner is left; says why.
        MissingField: no history has such a field.
        SpaceMismatch: the stores differ in their spaces.
    """

    def __init__(
        self,
        stores: Source | Sequence[Source],
        *,
        context_length: int = 200,
        fields: Sequence[str] | None = None,
        episode_stride: int | tuple[int, int] = 1,
        from_start: float | int = 0.0,
        splice: bool = False,
        balance: str = "steps",
        history_part: tuple[float | int, float | int] = (0.0, 1.0),
        tasks: Sequence[Task] | None = None,
        split: str | None = None,
        split_seed: int = 0,
        split_ratios: Sequence[float | int] = DEFAULT_RATIOS,
        min_progress: float | int | None = None,
        where: Predicate | str | None = None,
        num_windows: int | None = None,
        seed: int = 0,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        opened = _opened(stores)
        self.reader = WindowReader(opened, fields=DEFAULT_FIELDS if fields is None else fields, cache_bytes=cache_bytes)
        part = None
        if split is not None:
            part = split_tasks(tasks_of(opened), seed=split_seed, ratios=split_ratios).part(split)
        chosen = selected_histories(opened, tasks=(tasks, part), min_progress=min_progress, where=where)
        self.reader.check_fields(chosen)
        histories = Histories.of(opened).only(chosen).part(*history_part)
        self.sampler = WindowSampler(
            histories,
            length=context_length,
            episode_stride=episode_stride,
            from_start=from_start,
            splice=splice,
            balance=balance,
        )
        self.seed = checked_seed(seed)
        self.num_windows = _num_windows(num_windows, default=int(histories.num_steps.sum()) // context_length)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return self.num_windows

    @property
    def context_length(self) -> int:
        """Steps of a window."""
        return self.sampler.length

    @property
    def epoch(self) -> int:
        """The epoch that the next items are of."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch; workers that live on see it too."""
        if epoch < 0:
            raise InvalidValue(f"dataset: epoch is not a whole number from 0 up, got {epoch}. Count from 0.")
        self._epoch.fill_(epoch)

    def addresses(self, indices: Sequence[int], *, epoch: int | None = None) -> AddressBatch:
        """Return where some windows of an epoch (by default the present one) lie."""
        draws = window_draws(
            np.asarray(indices, dtype=np.int64),
            seed=self.seed,
            epoch=self.epoch if epoch is None else epoch,
            num_draws=self.sampler.num_draws,
        )
        return self.sampler.windows(draws)

    def __getitem__(self, index: int | WindowRange) -> dict[str, torch.Tensor]:
        if isinstance(index, WindowRange):
            return self._read(range(index.start, index.stop), epoch=index.epoch)
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        batch = self._read([range(len(self))[i] for i in indices], epoch=self.epoch)
        return [{name: tensor[i] for name, tensor in batch.items()} for i in range(len(indices))]

    def batches(
        self, batch_size: int, *, start: int = 0, rank: int = 0, num_ranks: int = 1, drop_last: bool = False
    ) -> WindowBatches:
        """Return a sampler of whole batches, for `DataLoader(dataset, sampler=..., batch_size=None)`.

        `start` is the first window: an epoch broken off after `n` windows goes on exactly with `start=n`. Of several
        ranks each takes every `num_ranks`-th batch.
        """
        return WindowBatches(
            self, batch_size=batch_size, start=start, rank=rank, num_ranks=num_ranks, drop_last=drop_last
        )

    def _read(self, indices: Sequence[int], *, epoch: int) -> dict[str, torch.Tensor]:
        return self.read(self.addresses(indices, epoch=epoch))

    def read(self, addresses: AddressBatch) -> dict[str, torch.Tensor]:
        """Read windows by where they lie."""
        windows = self.reader.read(addresses, self.context_length)
        return {name: torch.from_numpy(array) for name, array in windows.items()}


class WindowBatches(Sampler[WindowRange]):
    """The batches of one epoch after another; see `WindowDataset.batches`.

    Each batch carries its epoch, so that it is the same in whatever process it is read.
    """

    def __init__(
        self, dataset: WindowDataset, *, batch_size: int, start: int, rank: int, num_ranks: int, drop_last: bool
    ) -> None:
        if batch_size < 1 or not 0 <= rank < num_ranks or not 0 <= start <= len(dataset):
            raise InvalidValue(
                "dataset: batches need batch_size >= 1, 0 <= rank < num_ranks and 0 <= start <= "
                f"{len(dataset)}, got {batch_size}, {rank} of {num_ranks}, {start}. Correct them."
            )
        self._dataset = dataset
        self._batch_size = batch_size
        self._first = range(start, len(dataset) - (batch_size - 1) * drop_last, batch_size)[rank::num_ranks]

    def __len__(self) -> int:
        return len(self._first)

    def __iter__(self) -> Iterator[WindowRange]:
        epoch = self._dataset.epoch
        for start in self._first:
            yield WindowRange(epoch, start, min(start + self._batch_size, len(self._dataset)))


def _opened(stores: Source | Sequence[Source]) -> list[Store]:
    """Open what is given as a path."""
    sources = [stores] if isinstance(stores, (Store, str, os.PathLike)) else stores
    return [it if isinstance(it, Store) else historystore.store.open(it) for it in sources]


def checked_seed(seed: int) -> int:
    """Return a seed that is one."""
    if not 0 <= seed < 2**64:
        raise InvalidValue(f"dataset: seed is not a whole number from 0 to 2**64 - 1, got {seed}. Use one.")
    return seed


def _num_windows(num_windows: int | None, *, default: int) -> int:
    if num_windows is None:
        return max(1, default)
    if num_windows < 1:
        raise InvalidValue(f"dataset: num_windows is not a whole number from 1 up, got {num_windows}. Use one.")
    return num_windows
