"""A worker: learns and records one learner after another with its own writer (imports stable_baselines3)."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from queue import SimpleQueue

from historystore.errors import HistoryError, WriteFailed
from historystore.recording.engine import Watch, build_model
from historystore.recording.messages import Channel, Finished, Job, Learn, Message, Ready, Stepped, Stopped
from historystore.recording.plan import spec_of_seed
from historystore.sb3 import HistoryRecorder
from historystore.store import open as open_store
from historystore.writer import StoreWriter

_REPORT_S = 0.5


class _AskedToStop(Exception):  # noqa: N818 - no error
    """The parent is gone or wants the worker to seal and leave."""


class Worker:
    """Takes seeds from the parent until it hangs up, or asks to stop by hanging up in the middle of a learner."""

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
                while isinstance(message := self._messages.get(), Learn) and not self._is_stopping:
                    self._channel.send(self._learned(writer, job, message.seed))
        except HistoryError as problem:
            error = str(problem)
        self._channel.send(Stopped(error=error))

    def _learned(self, writer: StoreWriter, job: Job, seed: int) -> Finished:
        """Record one learner and say how it ended; only the disk's refusal is raised."""
        spec = spec_of_seed(job.template, seed)
        recorder = HistoryRecorder(writer, spec=spec, fields=job.fields, checkpoints=job.checkpoints)
        try:
            model = build_model(spec)
            model.learn(spec.num_steps, callback=[recorder, Watch(self._watch)])
        except WriteFailed:
            raise
        except _AskedToStop:
            recorder.close(status="partial", error="interrupted")
            return Finished(seed=seed, status="partial", num_steps=recorder.num_timesteps)
        except Exception as error:  # noqa: BLE001 - recorded with the learner; the others go on
            text = f"{type(error).__name__}: {error}"
            recorder.close(status="failed", error=text)
            if recorder.learner is None:  # it raised before its first step
                writer.begin(spec).finish(status="failed", error=text)
            return Finished(seed=seed, status="failed", num_steps=recorder.num_timesteps, error=text)
        return Finished(seed=seed, status="complete", num_steps=model.num_timesteps)

    def _watch(self, num_steps: int) -> None:
        if self._is_stopping:
            raise _AskedToStop
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
