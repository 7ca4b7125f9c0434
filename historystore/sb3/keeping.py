"""The checkpoints of a learner on its way: kept every so many steps, and a killed learner's taken up again."""

from __future__ import annotations

import pyarrow as pa
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from stable_baselines3.common.base_class import BaseAlgorithm

from historystore.checkpoints import PROGRESS, remove_checkpoint
from historystore.continuation import continue_cut
from historystore.documents import Continuation, LearnerSpec, Provenance, canonical_json
from historystore.errors import DamagedData
from historystore.fields import flatten
from historystore.folder import CHECKPOINTS
from historystore.learner_writer import LearnerWriter
from historystore.resumption import Resumption, progress_here
from historystore.sb3.checkpoint import save_checkpoint, set_parameters
from historystore.sb3.layers import split_layers
from historystore.sb3.recording import Recording
from historystore.sb3.snapshot import Snapshot, env_of, restore, snapshot
from historystore.sb3.sources import source_of
from historystore.writer import StoreWriter

_ARRAYS = "state.safetensors.zst"
_LEVEL = 1
RESET_REMARK = ", reset where an attempt continues another"
"""What the environment is called in the provenance of an attempt whose environments could not be put back."""


class CheckpointKeeper:
    """Keeps a checkpoint of a learner every so many of its steps, and removes the one before it.

    The order makes it safe to be killed anywhere: first the checkpoint's files, then the shard that holds every step
    up to it together with the learner's row that names it, and only then the older checkpoint's removal.
    """

    def __init__(self, learner: LearnerWriter, *, every: int, num_timesteps: int, previous: str | None) -> None:
        self._learner, self._every, self._previous = learner, every, previous
        self._kept_at = num_timesteps

    def keep_if_due(self, model: BaseAlgorithm, recording: Recording) -> None:
        """Keep a checkpoint if a multiple of the interval was passed since the last one.

        Raises:
            WriteFailed: the disk refused.
            InvalidValue: the learner has something that cannot be written without pickle.
        """
        if model.num_timesteps // self._every == self._kept_at // self._every:
            return
        self._kept_at = model.num_timesteps
        recording.flush()
        files = self._files(snapshot(model), wall_time_s=recording.wall_time_s)
        name = save_checkpoint(recording.writer.store, model, others=files)
        self._learner.add_checkpoint(name)
        self._settle(recording.writer, name)

    def end(self, writer: StoreWriter) -> None:
        """Seal the learner's end, then remove the last checkpoint on the way to it."""
        self._settle(writer, None)

    def _files(self, taken: Snapshot, *, wall_time_s: float) -> dict[str, bytes]:
        data = save_arrays(taken.arrays)
        progress = progress_here(
            self._learner.learner,
            step=self._learner.num_steps,
            wall_time_s=wall_time_s,
            num_bytes=len(data),
            state=taken.state,
        )
        # the first file says whose checkpoint it is, should a crash leave it unfinished
        return {PROGRESS: canonical_json(progress), _ARRAYS: pa.Codec("zstd", _LEVEL).compress(data, asbytes=True)}

    def _settle(self, writer: StoreWriter, name: str | None) -> None:
        writer.seal()
        previous, self._previous = self._previous, name
        if previous is not None and previous != name:
            remove_checkpoint(writer.store.place, previous)


def resume(
    model: BaseAlgorithm, found: Resumption, *, writer: StoreWriter, spec: LearnerSpec, provenance: Provenance
) -> LearnerWriter:
    """Put a fresh model to where a checkpoint was taken, and continue the learner's attempt as a new one.

    To be called where a rollout starts, as `CheckpointKeeper.keep_if_due` is.
    """
    if _put_back(model, found, spec):
        continues = Continuation(attempt=found.learner.row.attempt, step=found.progress.step)
        learner = writer.begin(spec, provenance=provenance, continues=continues)
    else:
        _, env = split_layers(env_of(model))
        name = provenance.environment + RESET_REMARK
        learner = continue_cut(
            writer,
            found.learner,
            step=found.progress.step,
            provenance=provenance.model_copy(update={"environment": name}),
            next_observation=flatten("observation", env.observation_space, source_of(env, model).observation()),
        )
    learner.add_checkpoint(found.checkpoint)
    return learner


def _put_back(model: BaseAlgorithm, found: Resumption, spec: LearnerSpec) -> bool:
    """Restore a model from a checkpoint; return whether its environments are where they were."""
    progress = found.progress
    try:
        data = pa.Codec("zstd").decompress(found.files[_ARRAYS], progress.num_bytes, asbytes=True)
        set_parameters(model, found.document, found.files)
        taken = Snapshot(state=progress.state, arrays=load_arrays(data))
        return restore(model, taken, learner=spec.id, step=progress.step)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedData(
            f"{CHECKPOINTS}/{found.checkpoint}: does not fit the learner, {type(error).__name__}: {error}. Install the "
            "versions that it was recorded with, or delete this folder to let the learner begin anew."
        ) from error
