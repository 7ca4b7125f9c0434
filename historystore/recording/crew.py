"""The workers of a recording as its parent sees them: who learns what, and what became of it."""

from __future__ import annotations

import math
import os
import selectors
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

from historystore.errors import HistoryError, WriteFailed
from historystore.recording.launcher import Launcher
from historystore.recording.messages import Channel, Finished, Learn, Message, Ready, Stepped, Stopped

STOP_S = 60.0
"""How long workers may take to seal before they are killed."""
_MOST_DEATHS = 2
"""A learner is given up when that many workers died while they were at it."""
_MOST_FALSE_STARTS = 3


def groups_of(seeds: Sequence[int], *, size: int, num_workers: int) -> list[Sequence[int]]:
    """Divide learners into groups of at most `size`, as even as can be, and enough of them for every worker."""
    num_groups = max(math.ceil(len(seeds) / size), min(num_workers, len(seeds)))
    bounds = [len(seeds) * index // num_groups for index in range(num_groups + 1)]
    return [seeds[start:stop] for start, stop in pairwise(bounds)]


@dataclass(slots=True, kw_only=True)
class Worker:
    """One worker process."""

    channel: Channel
    pid: int | None = None
    seeds: list[int] = field(default_factory=list)
    """The learners it is at."""
    num_steps: int = 0
    """Of those learners, all together."""
    finished: dict[int, Finished] = field(default_factory=dict)
    """What it has done; the last of it may not be sealed yet."""
    has_left: bool = False
    """It said goodbye: everything it did is sealed."""


class Crew:
    """Deals groups of learners to workers, and deals again what a dead worker had not sealed.

    A group at which a worker died is dealt again as two halves, so that one learner that kills its workers does not
    take others with it.

    Args:
        launcher: starts the workers; warm.
        seeds: the learners to record.
        group_size: how many of them a worker is handed at once, at most.
        num_workers: how many work at once.
        unsealed: asks the store which of some finished learners it does not hold; called when a worker died.
        give_up: told of a learner that no worker ended.
    """

    def __init__(
        self,
        launcher: Launcher,
        *,
        seeds: Sequence[int],
        group_size: int,
        num_workers: int,
        unsealed: Callable[[Mapping[int, Finished]], list[int]],
        give_up: Callable[[Finished], None],
    ) -> None:
        self._launcher = launcher
        self._group_size = group_size
        self._queue = deque(groups_of(seeds, size=group_size, num_workers=num_workers))
        self._num_workers = num_workers
        self._unsealed, self._give_up = unsealed, give_up
        self._selector = selectors.DefaultSelector()
        self._workers: list[Worker] = []
        self._deaths: Counter[int] = Counter()
        self._false_starts = 0
        self.ended: dict[int, Finished] = {}
        """What became of each learner that has ended."""

    @property
    def is_done(self) -> bool:
        """Whether every learner has ended and every worker has left."""
        return not self._queue and not self._workers

    @property
    def num_workers(self) -> int:
        """Workers that are ready."""
        return sum(worker.pid is not None for worker in self._workers)

    @property
    def num_steps(self) -> int:
        """Environment steps of the learners that have ended and of those under way."""
        return sum(end.num_steps for end in self.ended.values()) + sum(worker.num_steps for worker in self._workers)

    def work(self, *, timeout_s: float) -> None:
        """Keep enough workers busy, and handle what they say within the next seconds.

        Raises:
            WriteFailed: the store cannot be written any more.
            HistoryError: workers do not start.
        """
        while self._queue and len(self._workers) < self._num_workers:
            self._hire()
        for key, _ in self._selector.select(timeout_s):
            worker: Worker = key.data
            messages = worker.channel.received()
            if messages is None:
                self._bury(worker)
            for message in messages or ():
                self._handle(worker, message)

    def close(self) -> None:
        """Ask the workers that are left to seal and leave, and wait for them; the slow ones are killed."""
        self._queue.clear()
        for worker in self._workers:
            worker.channel.hang_up()
        deadline = time.monotonic() + STOP_S
        while self._workers and time.monotonic() < deadline:
            with suppress(KeyboardInterrupt, HistoryError):  # a second Ctrl-C must not cost what is being sealed
                self._see_off()
        for worker in self._workers:
            if worker.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
            worker.channel.close()
        self._selector.close()

    def _see_off(self) -> None:
        for key, _ in self._selector.select(timeout=1.0):
            if key.data.channel.received() is None:
                self._dismiss(key.data)

    def _hire(self) -> None:
        worker = Worker(channel=self._launcher.start_worker())
        self._workers.append(worker)
        self._selector.register(worker.channel.socket, selectors.EVENT_READ, worker)

    def _dismiss(self, worker: Worker) -> None:
        self._selector.unregister(worker.channel.socket)
        self._workers.remove(worker)
        worker.channel.close()

    def _handle(self, worker: Worker, message: Message) -> None:
        match message:
            case Ready(pid=pid):
                worker.pid = pid
                self._deal(worker)
            case Stepped(num_steps=num_steps):
                worker.num_steps = num_steps
            case Finished(status="partial"):
                pass  # somebody else told the worker to stop: what it was at is dealt again when it has left
            case Finished(seed=seed):
                self.ended[seed] = worker.finished[seed] = message
                worker.seeds.remove(seed)
                worker.num_steps = max(worker.num_steps - message.num_steps, 0)
                if not worker.seeds:
                    self._deal(worker)
            case Stopped(error=None):
                worker.has_left = True
            case Stopped(error=error):
                raise WriteFailed(error)

    def _deal(self, worker: Worker) -> None:
        """Give a worker its next learners, or let it go when there are none."""
        worker.seeds, worker.num_steps = [], 0
        if self._queue:
            worker.seeds = list(self._queue.popleft())
            worker.channel.send(Learn(seeds=tuple(worker.seeds)))
        else:
            worker.channel.hang_up()

    def _bury(self, worker: Worker) -> None:
        """Note what is lost with a worker that has gone, and put it back into the queue."""
        self._dismiss(worker)
        lost = [] if worker.has_left else self._unsealed(worker.finished)
        for seed in lost:
            del self.ended[seed]
        if lost:
            self._queue.extendleft(groups_of(lost, size=self._group_size, num_workers=1))
        if worker.pid is None:
            self._count_false_start()
        if len(worker.seeds) > 1:
            half = len(worker.seeds) // 2
            self._queue.extendleft((worker.seeds[half:], worker.seeds[:half]))
        elif worker.seeds:
            self._put_back(worker.seeds[0])

    def _put_back(self, seed: int) -> None:
        self._deaths[seed] += 1
        if self._deaths[seed] < _MOST_DEATHS:
            self._queue.appendleft([seed])
            return
        error = f"not recorded: {_MOST_DEATHS} worker processes died at it. {self._launcher.last_words()}"
        self.ended[seed] = Finished(seed=seed, status="failed", num_steps=0, error=error)
        self._give_up(self.ended[seed])

    def _count_false_start(self) -> None:
        self._false_starts += 1
        if self._false_starts >= _MOST_FALSE_STARTS:
            raise HistoryError(f"recording: workers do not start. {self._launcher.last_words()}")
