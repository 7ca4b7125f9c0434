"""Record many learners into one store: what `hist record` calls.

Importing this package loads neither torch nor Stable-Baselines3; the worker processes do.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

from historystore.recording.plan import (
    DEFAULT_SEAL_MB,
    DEFAULT_SEAL_S,
    RecordPlan,
    plan_recording,
)
from historystore.recording.progress import Failure, Progress, RecordReport
from historystore.recording.workers import run
from historystore.shards import FormatName, Profile

__all__ = ["Failure", "Progress", "RecordPlan", "RecordReport", "plan_recording", "record", "run"]


def record(
    algo: str,
    env: str,
    seeds: str | int | Iterable[int],
    *,
    env_args: Mapping[str, Any] | None = None,
    engine: str | None = None,
    out: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    streams: int | None = None,
    policy: str | None = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - as on the command line
    fields: Sequence[str] | None = None,
    checkpoints: str | None = None,
    workers: int | None = None,
    seal_mb: float = DEFAULT_SEAL_MB,
    seal_s: float = DEFAULT_SEAL_S,
    format: FormatName = "hdf5",  # noqa: A002 - as on the command line
    profile: Profile | None = None,
) -> RecordReport:
    """Record the whole training history of one learner for each seed, in several processes.

    Learners that the store holds complete are skipped; those it holds as partial or failed are recorded again. A
    learner that raises is recorded as failed, and the others go on: look at the report's `failures`. Interrupted or
    killed, nothing that was sealed is lost, and the same call records the rest; a worker seals at the latest every
    `seal_mb` MiB or `seal_s` seconds. To see progress, iterate `run(plan_recording(...))` instead.

    Args:
        algo: the learning algorithm, such as "ppo".
        env: the task family, such as "darkroom"; a learner's seed decides its task.
        seeds: such as "0-99,205" (inclusive), an integer, or integers.
        env_args: arguments of the family that are not to be its defaults, such as {"size": 13}.
        engine: what carries the algorithm out: "lockstep" advances many small PPO, A2C or DQN learners together,
            "sb3" does what Stable-Baselines3 can; the algorithm's own by default.
        out: the store's directory or URL, made when it is not there; `<env>-<algo>` by default.
        steps: environment steps of a learner over all its streams, rounded up to whole rollouts.
        streams: parallel environments of a learner.
        policy: the policy class by its Stable-Baselines3 name.
        set: single hyperparameters by their Stable-Baselines3 names.
        fields: which optional step fields to record (`log_prob`, `value`, ...); all by default. They are no part of
            a learner's identity.
        checkpoints: "final" to store the trained model; "every=N" also to go on from there, about every N steps.
        workers: processes; one for each core by default.
        seal_mb: buffered steps of a worker, in MiB, that are sealed into a shard at the latest.
        seal_s: seconds after which a worker's steps are sealed at the latest.
        format: of the shards' files, "hdf5" or "arrow".
        profile: what they are for: "standard", "archive" (the smallest) or "compat" (any HDF5 reader can decompress it)
            HDF5, "fast" (windows are gathered from a memory map) or "archive" Arrow; the first of them by default.

    Raises:
        InvalidValue: an unknown name, a bad seed range, or a value that the algorithm does not take.
        NotAStore: something else is at `out`.
        SpaceMismatch: the store at `out` is of another family or has other spaces.
        WriteFailed: the store cannot be written, or not any more. What was sealed is not lost: where a remote store's
            server stopped to answer, it waits on this machine, and the same call uploads it.
        Unreachable: the server of a remote store does not answer.
    """
    plan = plan_recording(
        algo,
        env,
        seeds,
        env_args=env_args,
        engine=engine,
        out=out,
        steps=steps,
        streams=streams,
        policy=policy,
        set=set,
        fields=fields,
        checkpoints=checkpoints,
        workers=workers,
        seal_mb=seal_mb,
        seal_s=seal_s,
        format=format,
        profile=profile,
    )
    with closing(run(plan)) as states:
        report = None
        for state in states:
            report = state if isinstance(state, RecordReport) else None
    assert report is not None, "the last state is the report"
    return report
