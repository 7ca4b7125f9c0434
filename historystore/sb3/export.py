"""A learner's model as Stable-Baselines3's own file, from its checkpoint."""

from __future__ import annotations

import io
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from historystore.checkpoints import read_checkpoint
from historystore.errors import InvalidValue
from historystore.files import create_file
from historystore.learners import Learner
from historystore.sb3.checkpoint import load_checkpoint
from historystore.store import Store

MOST_NAMED = 3


class ExportedModel(BaseModel):
    """A model that was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    learner: str
    checkpoint: str
    algorithm: str
    """Import path of the class whose `load` reads it, as ``module:Name``."""
    num_timesteps: int
    """Steps that it had learned for, over all streams."""
    num_bytes: int
    left_out: dict[str, JsonValue]
    """Settings that are not as they were, because no checkpoint can hold them: a schedule is the number it was."""


def export_model(store: Store, learner: Learner, out: Path) -> ExportedModel:
    """Write a learner's model as a zip file that Stable-Baselines3's own `load` reads, and that acts the same.

    Such files are made with pickle, as everywhere in Stable-Baselines3: load only those that you trust. Replay buffer
    and environments are not part of them.

    Args:
        store: the store.
        learner: one with a checkpoint; one on the way to the end will do.
        out: the file, which must not be there.

    Raises:
        InvalidValue: the learner has no checkpoint, its policy cannot be imported, or something is at `out`.
        DamagedData: the checkpoint does not hold what was written to it, or a class of it is not installed.
        WriteFailed: the disk refused.
    """
    name = learner.row.checkpoint
    if name is None:
        raise InvalidValue(_without_checkpoint(store, learner))
    if out.exists():
        raise InvalidValue(f"{out}: is there already. Choose another name.")
    model = load_checkpoint(store, name)
    data = io.BytesIO()
    model.save(data)
    if not create_file(out, data.getvalue()):
        raise InvalidValue(f"{out}: is there already. Choose another name.")
    document, _ = read_checkpoint(store.place, name)
    return ExportedModel(
        path=str(out),
        learner=learner.id,
        checkpoint=name,
        algorithm=document.algorithm,
        num_timesteps=model.num_timesteps,
        num_bytes=len(data.getvalue()),
        left_out=document.left_out,
    )


def _without_checkpoint(store: Store, learner: Learner) -> str:
    """Say which learners have a checkpoint, where this one has none."""
    having = [other for other in store.learners if other.row.checkpoint is not None]
    where = f"{store.place}: learner {learner.id[:12]} has no checkpoint"
    if not having:
        return f"{where}, nor has any other. Record into another store with --checkpoints final or every=N."
    named = ", ".join(f"{other.id[:12]} (seed {other.spec.seed})" for other in having[:MOST_NAMED])
    more = "" if len(having) <= MOST_NAMED else f" and {len(having) - MOST_NAMED:,} more"
    return f"{where}, expected one of those that have: {named}{more}. Choose one of them."
