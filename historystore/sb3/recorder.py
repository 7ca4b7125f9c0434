"""The callback that records what a Stable-Baselines3 model learns."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from historystore.documents import LearnerSpec, Provenance, Status
from historystore.errors import InvalidValue
from historystore.fields import check_names
from historystore.sb3.checkpoint import save_checkpoint
from historystore.sb3.environment import EnvFacts, env_facts
from historystore.sb3.layers import split_layers
from historystore.sb3.provenance import sb3_provenance
from historystore.sb3.recording import Recording
from historystore.sb3.sources import source_of
from historystore.sb3.specification import learner_spec
from historystore.sb3.tap import Tap
from historystore.sb3.updates import UpdateLog
from historystore.store import create
from historystore.writer import StoreWriter


class HistoryRecorder(BaseCallback):
    """Record every step and update of ``model.learn(n, callback=HistoryRecorder("my-store"))``.

    Every algorithm on Stable-Baselines3's own training loops can be recorded, with one environment or many, behind any
    VecEnv wrapper. What the environments gave and were given is taken beneath the wrappers, bit for bit; nothing that
    the learner does changes: the same seed ends in the same weights. Environments of an EvalCallback are not touched.

    Each call of `learn()` is a learner of its own in the store, with its own specification; one that goes on from
    earlier training (`reset_num_timesteps=False`, or a loaded model) says so in it. A `learn()` that returns after all
    its steps is complete; one that a callback ends early is partial. Steps reach the disk in sealed shards; when the
    process is killed, those since the last seal are lost. After an exception in `learn()` the steps until then are
    sealed as partial as soon as the recorder is closed, collected or the interpreter exits; as a context manager it
    also knows the reason.

    Args:
        store: path of a store, opened or created when the learning begins; or a writer, which stays open.
        family: the family of tasks that the store is for; the environment's own, or its id, when not given.
        task: what tells this learner's task from others of the family, as JSON values, tuples or arrays; the
            environment's own when not given.
        spec: the whole specification, in place of the one read off the model.
        provenance: in place of the one found out.
        fields: the optional step fields to record (`log_prob`, `value`, `raw_action`, `source_observation`,
            `info/<key>`); the first three, where the algorithm has them, when not given, and the fourth where the
            family shows its source learner more than the observation.
        checkpoints: "final" stores parameters and optimiser when the learning ends.

    Raises:
        InvalidValue: an unknown field, or (when the learning begins) environments that cannot be recorded.
        SpaceMismatch: (when the learning begins) the store at the path is for other environments.
        WriteFailed: (while learning) the disk refused a shard.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | StoreWriter,
        *,
        family: str | None = None,
        task: Mapping[str, Any] | None = None,
        spec: LearnerSpec | None = None,
        provenance: Provenance | None = None,
        fields: Sequence[str] | None = None,
        checkpoints: str | None = None,
    ) -> None:
        super().__init__()
        check_names(fields or ())
        if checkpoints not in (None, "final"):
            raise InvalidValue(f"checkpoints: expected 'final' or None, got {checkpoints!r}. Leave it out for none.")
        self._store = store
        self._family, self._task = family, task
        self._spec, self._provenance = spec, provenance
        self._fields = None if fields is None else tuple(fields)
        self._checkpoints = checkpoints
        self._recording: Recording | None = None
        self._learner: str | None = None

    @property
    def learner(self) -> str | None:
        """The id of the learner that is being recorded, or was last."""
        return self._learner

    def close(self, *, status: Status = "partial", error: str | None = None) -> None:
        """End a recording that `learn()` did not end itself, with the steps so far; without one nothing happens.

        A writer that was handed in stays open, and seals when it does.
        """
        self._end(status, error=error)

    def _end(self, status: Status, *, error: str | None = None, checkpoint: str | None = None) -> None:
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.finish(status, error=error, checkpoint=checkpoint)

    def __enter__(self) -> HistoryRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self.close(status="failed", error=f"{type(error).__name__}: {error}")
        else:
            self.close()

    def _on_training_start(self) -> None:
        self.close()
        facts = env_facts(self.model)
        _, env = split_layers(self.training_env)
        writer = self._open_writer(facts, env)
        family = writer.store.document.family
        spec = self._spec or learner_spec(self.model, facts, family=family, task=self._task)
        if spec.num_streams != env.num_envs:
            raise InvalidValue(
                f"spec: has num_streams {spec.num_streams}, expected {env.num_envs} as the model's environments. "
                "Correct it."
            )
        provenance = self._provenance or sb3_provenance(self.model, spec, environment=facts.name)
        source = source_of(env, self.model)
        observation = source.observation()
        learner = writer.begin(spec, provenance=provenance)
        self._learner = learner.learner
        self._recording = Recording(
            tap=Tap(env, source=source, observation=observation),
            learner=learner,
            updates=UpdateLog(self.model),
            action_space=env.action_space,
            fields=self._fields,
            writer=writer,
            is_own_writer=writer is not self._store,
        )
        self._recording.finish_with(self)

    def _open_writer(self, facts: EnvFacts, env: VecEnv) -> StoreWriter:
        if isinstance(self._store, StoreWriter):
            return self._store
        family = self._family or (facts.family if self._spec is None else self._spec.family)
        spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
        return StoreWriter(create(self._store, family=family, **spaces))

    def _on_rollout_start(self) -> None:
        if self._recording is not None:
            self._recording.look(self.model)

    def _on_step(self) -> bool:
        if self._recording is not None:
            self._recording.step(self.locals)
        return True

    def _on_training_end(self) -> None:
        recording = self._recording
        if recording is None:
            return
        recording.look(self.model)
        checkpoint = None if self._checkpoints is None else save_checkpoint(recording.writer.store, self.model)
        missing = recording.missing()
        self._end("partial" if missing else "complete", error=missing, checkpoint=checkpoint)
