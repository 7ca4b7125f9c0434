"""A worker: learns and records one group of learners after another with its own writer."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from queue import SimpleQueue

from historystore.errors import HistoryError
from historystore.recording.engines import Interrupted, Session, engine_of
from historystore.recording.messages import Channel, Job, Learn, Message, Ready, Stepped, Stopped
from historystore.recording.plan import spec_of_seed
from historystore.store import open as open_store
from historystore.writer import StoreWriter

_REPORT_S = 0.5


class Worker:
    """Takes seeds from the parent until it hangs up, or asks to stop by hanging up in the middle of a group."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._messages: SimpleQueue[Message | None] = SimpleQueue()
        self._is_stopping = False
        self._reported = time.monotonic()
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        threading.Thread(target=self._listen, daemon=True).start()

    def run(self) -> None:
        """Record until the parent hangs up, then seal and say goodbye."""
        job = self._messages.get()
        if not isinstance(job, Job):
            return
        error = None
        try:
            store = open_store(job.store, mode="a")
            seal_bytes = round(job.seal_mb * 2**20)
            with StoreWriter(
                store, seal_bytes=seal_bytes, seal_s=job.seal_s, format=job.format, profile=job.profile
            ) as writer:
                self._channel.send(Ready(pid=os.getpid()))
                session = Session(writer=writer, fields=job.fields, checkpoints=job.checkpoints, watch=self._watch)
                engine = engine_of(job.template, policies=job.policies_store)
                while isinstance(message := self._messages.get(), Learn) and not self._is_stopping:
                    specs = [spec_of_seed(job.template, seed, policies=job.policies) for seed in message.seeds]
                    for finished in engine.learn(specs, session):
                        self._channel.send(finished)
        except HistoryError as problem:
            error = str(problem)
        self._channel.send(Stopped(error=error))

    def _watch(self, num_steps: int) -> None:
        if self._is_stopping:
            raise Interrupted
        now = time.monotonic()
        if now - self._reported >= _REPORT_S:
            self._reported = now
            self._channel.send(Stepped(num_steps=num_steps))

    def _listen(self) -> None:
        for message in self._channel:
            self._messages.put(message)
        self._stop()

    def _stop(self) -> None:
        self._is_stopping = True
        self._messages.put(None)


def main(connection: int) -> None:
    """Be a worker on a connected socket."""
    with socket.socket(fileno=connection) as end:
        Worker(Channel(end)).run()
