"""What the processes of a recording say to each other: one JSON line a message over a socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from historystore.documents import Document, LearnerSpec
from historystore.recording.recorded_policies import RecordedPolicies
from historystore.shards import FormatName, Profile


class Job(Document):
    """What all learners of one recording share; the first line to every process."""

    kind: Literal["job"] = "job"
    store: str
    template: LearnerSpec
    """The specification of the first learner; the others differ in seed and task."""
    fields: tuple[str, ...] | None
    checkpoints: str | None
    seal_mb: float
    seal_s: float
    format: FormatName
    profile: Profile | None
    policies: RecordedPolicies | None = None
    """The trained models that act, where they do."""

    @property
    def policies_store(self) -> str | None:
        """Where those are."""
        return None if self.policies is None else self.policies.store


class Warm(Document):
    """The launcher has imported everything and tried to build the learner once."""

    kind: Literal["warm"] = "warm"
    group_size: int = 1
    """How many learners the engine takes at once, at most."""
    error: str | None = None
    """Why the learner cannot be built."""
    warnings: tuple[str, ...] = ()


class Learn(Document):
    """Record the learners of these seeds next, together."""

    kind: Literal["learn"] = "learn"
    seeds: tuple[int, ...]


class Ready(Document):
    """A worker waits for its first learners."""

    kind: Literal["ready"] = "ready"
    pid: int


class Stepped(Document):
    """A worker's learners under way have come this far, all together."""

    kind: Literal["stepped"] = "stepped"
    num_steps: int


class Finished(Document):
    """A worker is done with a learner; its last steps may not be sealed yet."""

    kind: Literal["finished"] = "finished"
    seed: int
    status: Literal["complete", "failed", "partial"]
    num_steps: int
    num_resumed: int = 0
    """Of those, the steps that it had lived before, up to the checkpoint from which it went on."""
    error: str | None = None


class Stopped(Document):
    """A worker has sealed what it could and leaves."""

    kind: Literal["stopped"] = "stopped"
    error: str | None = None
    """Why it could not go on, in one line."""


Message = Annotated[Job | Warm | Learn | Ready | Stepped | Finished | Stopped, Field(discriminator="kind")]
_MESSAGES: TypeAdapter[Message] = TypeAdapter(Message)


class Channel:
    """One end of a socket that carries messages both ways."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self._rest = b""

    def send(self, message: Document) -> None:
        """Send a message; when the other end is gone, nothing happens (reading tells)."""
        with suppress(OSError):
            self.socket.sendall(message.model_dump_json().encode() + b"\n")

    def received(self) -> list[Message] | None:
        """Return the messages that have arrived, after waiting for some bytes; None once the other end is gone."""
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            return None
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [_MESSAGES.validate_json(line) for line in lines]

    def __iter__(self) -> Iterator[Message]:
        while (messages := self.received()) is not None:
            yield from messages

    def hang_up(self) -> None:
        """Say that no message will follow; the other end can still speak."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Give the socket back."""
        self.socket.close()
