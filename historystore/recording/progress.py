"""What a recording says while it runs, and at its end."""

from __future__ import annotations

from historystore.documents import Document
from historystore.summary import LearnerCounts


class Progress(Document):
    """How far a recording has come; learners and steps are those of this recording alone."""

    num_workers: int
    num_learners: int
    num_done: int
    """Learners that have ended, completely or not."""
    num_failed: int
    num_steps: int
    num_steps_planned: int
    steps_per_s: float
    """Environment steps a second of all workers, since the first of them was ready."""
    seconds_left: float | None
    """At this speed; None until there is one."""
    num_bytes: int
    """Bytes of the whole store's shards."""


class Failure(Document):
    """A learner that did not end well."""

    seed: int
    learner: str
    error: str


class RecordReport(Document):
    """What a recording did, and the store as it is afterwards."""

    store: str
    digest: str
    num_skipped: int
    num_retried: int
    num_added: int
    failures: tuple[Failure, ...]
    """Learners that raised (recorded as failed) or whose worker died twice (not recorded)."""
    learners: LearnerCounts
    num_steps: int
    """Environment steps in the whole store."""
    num_bytes: int
    """Bytes of the whole store's shards."""
    num_steps_recorded: int
    num_continued: int
    """Learners that went on from a checkpoint."""
    seconds: float
    """From when workers could start to the last seal."""
    steps_per_s: float
    """Of this recording, over those seconds."""
