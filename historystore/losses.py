"""What a recovery reports: how far it is, and what is lost."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Loss(BaseModel):
    """Something that cannot be read any more, and is therefore not in the new store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: Literal["document", "shard", "steps", "updates", "seeds", "digest", "checkpoint"]
    file: str | None = None
    """Where in the damaged store the damage lies, where that is known."""
    learner: str | None = None
    attempt: str | None = None
    stream: int | None = None
    rows: tuple[int, int] | None = None
    """Half-open: steps of the stream, or updates of the learner."""
    fields: tuple[str, ...] = ()
    """The fields or tables that cannot be read there."""
    message: str

    def __str__(self) -> str:
        """Return the place and what is lost, in one line."""
        learner = None if self.learner is None else f"learner {self.learner[:12]}"
        stream = None if self.stream is None else f"stream {self.stream}"
        return ": ".join([", ".join(part for part in (self.file, learner, stream) if part), self.message])


class Recovered(BaseModel):
    """How far a recovery has come, and what was found lost on the way there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    """What was looked at."""
    done: int
    total: int
    """Bytes of shards, each counted once for looking and once for reading."""
    num_whole: int = 0
    """Shards carried over as they are, so far."""
    num_rewritten: int = 0
    """Shards written anew, so far."""
    losses: tuple[Loss, ...] = ()
