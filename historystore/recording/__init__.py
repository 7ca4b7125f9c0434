"""Record many learners into one store: what `hist record` calls.

Importing this package loads neither torch nor Stable-Baselines3; the worker processes do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypedDict

from historystore.recording.plan import RecordPlan, plan_recording
from historystore.recording.progress import Failure, Progress, RecordReport
from historystore.recording.workers import run
from historystore.shards import FormatName, Profile

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Failure", "Progress", "RecordOptions", "RecordPlan", "RecordReport", "plan_recording", "record", "run"]


class RecordOptions(TypedDict, total=False):
    """What `record` and `plan_recording` may be told besides algorithm, family and seeds."""

    env_args: Mapping[str, Any] | None
    """Arguments of the family that are not to be its defaults, such as {"size": 13}."""
    engine: str | None
    """What carries the algorithm out: "lockstep" advances many small PPO, A2C or DQN learners together, "sb3" does what
    Stable-Baselines3 can; the algorithm's own by default."""
    out: str | os.PathLike[str] | None
    """The store's directory or URL, made when it is not there; `<env>-<algo>` by default."""
    steps: int | None
    """Environment steps of a learner over all its streams, rounded up to whole rollouts."""
    streams: int | None
    """Parallel environments of a learner."""
    policy: str | None
    """The policy class by its Stable-Baselines3 name."""
    set: Mapping[str, Any] | None
    """Single hyperparameters by their Stable-Baselines3 names."""
    fields: Sequence[str] | None
    """Which optional step fields to record (`log_prob`, `value`, ...); all by default. They are no part of a learner's
    identity."""
    checkpoints: str | None
    """ "final" to store the trained model; "every=N" also to go on from there, about every N steps."""
    workers: int | None
    """Processes; one for each core by default."""
    seal_mb: float
    """Buffered steps of a worker, in MiB, that are sealed into a shard at the latest."""
    seal_s: float
    """Seconds after which a worker's steps are sealed at the latest."""
    format: FormatName
    """Of the shards' files, "hdf5" or "arrow"."""
    profile: Profile | None
    """What they are for: "standard", "archive" (the smallest) or "compat" (any HDF5 reader can decompress it) HDF5,
    "fast" (windows are gathered from a memory map) or "archive" Arrow; the first of them by default."""


def record(algo: str, env: str, seeds: str | int | Iterable[int], **options: Unpack[RecordOptions]) -> RecordReport:
    """Record the whole training history of one learner for each seed, in several processes.

    Learners that the store holds complete are skipped; those it holds as partial or failed are recorded again. A
    learner that raises is recorded as failed, and the others go on: look at the report's `failures`. Interrupted or
    killed, nothing that was sealed is lost, and the same call records the rest; a worker seals at the latest every
    `seal_mb` MiB or `seal_s` seconds. To see progress, iterate `run(plan_recording(...))` instead.

    Args:
        algo: the learning algorithm, such as "ppo".
        env: the task family, such as "darkroom"; a learner's seed decides its task.
        seeds: such as "0-99,205" (inclusive), an integer, or integers.
        options: see `RecordOptions`.

    Raises:
        InvalidValue: an unknown name, a bad seed range, or a value that the algorithm does not take.
        NotAStore: something else is at `out`.
        SpaceMismatch: the store at `out` is of another family or has other spaces.
        WriteFailed: the store cannot be written, or not any more. What was sealed is not lost: where a remote store's
            server stopped to answer, it waits on this machine, and the same call uploads it.
        Unreachable: the server of a remote store does not answer.
    """
    with closing(run(plan_recording(algo, env, seeds, **options))) as states:
        report = None
        for state in states:
            report = state if isinstance(state, RecordReport) else None
    assert report is not None, "the last state is the report"
    return report
