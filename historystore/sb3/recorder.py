"""The callback that records what a Stable-Baselines3 model learns."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from historystore.documents import LearnerSpec, Provenance, Status
from historystore.errors import InvalidValue
from historystore.fields import check_names
from historystore.learner_writer import LearnerWriter
from historystore.resumption import Resumption, checkpoint_interval, resumption, sweep_checkpoints
from historystore.sb3.checkpoint import save_checkpoint
from historystore.sb3.environment import EnvFacts, env_facts
from historystore.sb3.keeping import CheckpointKeeper, resume
from historystore.sb3.layers import split_layers
from historystore.sb3.provenance import sb3_provenance
from historystore.sb3.recording import Recording
from historystore.sb3.snapshot import snapshot
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

    With ``checkpoints="every=N"``, the same script run again after it was killed goes on from the last checkpoint, as a
    new attempt that hides the steps after it: model, replay buffer, random generators and progress are put back, and so
    are our own batched environments. A learner ends with the digest that it would have had (`tests/
    test_record_resume.py`). Of other environments nobody can save the state: they are reset, with new seeds, and the
    episodes that were open there end as truncated; the provenance of such an attempt says so. A model without a seed is
    another learner in each run, and other callbacks begin anew.

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
        checkpoints: "final" stores parameters and optimiser when the learning ends. "every=N" does so as well, and
            about every N steps, between two rollouts, stores all that the learner needs to go on: see below.

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
        self._every = checkpoint_interval(checkpoints)
        self._store = store
        self._family, self._task = family, task
        self._spec, self._provenance = spec, provenance
        self._fields = None if fields is None else tuple(fields)
        self._checkpoints = checkpoints
        self._recording: Recording | None = None
        self._keeper: CheckpointKeeper | None = None
        self._take_up: Callable[[], None] | None = None
        self._learner: str | None = None
        self._num_resumed = 0

    @property
    def learner(self) -> str | None:
        """The id of the learner that is being recorded, or was last."""
        return self._learner

    @property
    def num_resumed(self) -> int:
        """Steps, over all streams, that the learner had lived before the checkpoint from which it went on."""
        return self._num_resumed

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
        found = None
        if self._every is not None:
            snapshot(self.model)  # what it cannot hold is refused before the first step
            found = resumption(writer.store, spec.id)
        if found is None:
            source_of(env, self.model).observation()  # refuses wrappers before anything is begun
            self._record(writer, writer.begin(spec, provenance=provenance), previous=None)
        else:
            self._take_up = partial(self._resume, found, writer=writer, spec=spec, provenance=provenance)

    def _resume(self, found: Resumption, *, writer: StoreWriter, spec: LearnerSpec, provenance: Provenance) -> None:
        learner = resume(self.model, found, writer=writer, spec=spec, provenance=provenance)
        self._record(writer, learner, previous=found)

    def _record(self, writer: StoreWriter, learner: LearnerWriter, *, previous: Resumption | None) -> None:
        """Begin to record a learner."""
        _, env = split_layers(self.training_env)
        source = source_of(env, self.model)
        self._learner = learner.learner
        self._num_resumed = 0 if previous is None else self.model.num_timesteps
        self._recording = Recording(
            tap=Tap(env, source=source, observation=source.observation()),
            learner=learner,
            updates=UpdateLog(self.model, wall_time_s=0.0 if previous is None else previous.progress.wall_time_s),
            action_space=env.action_space,
            fields=self._fields,
            writer=writer,
            is_own_writer=writer is not self._store,
        )
        self._recording.finish_with(self)
        self._keeper = None
        if self._every is not None:
            self._keeper = CheckpointKeeper(
                learner,
                every=self._every,
                num_timesteps=self.model.num_timesteps,
                previous=None if previous is None else previous.checkpoint,
            )

    def _open_writer(self, facts: EnvFacts, env: VecEnv) -> StoreWriter:
        if isinstance(self._store, StoreWriter):
            return self._store
        family = self._family or (facts.family if self._spec is None else self._spec.family)
        spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
        store = create(self._store, family=family, **spaces)
        if self._every is not None:
            sweep_checkpoints(store)
        return StoreWriter(store)

    def _on_rollout_start(self) -> None:
        take_up, self._take_up = self._take_up, None
        if take_up is not None:
            take_up()
        elif self._recording is not None:
            self._recording.look(self.model)
            if self._keeper is not None:
                self._keeper.keep_if_due(self.model, self._recording)

    def _on_step(self) -> bool:
        if self._recording is not None:
            self._recording.step(self.locals)
        return True

    def _on_training_end(self) -> None:
        recording = self._recording
        if recording is None:
            return
        recording.look(self.model)
        missing, keeper = recording.missing(), self._keeper
        is_over = keeper is None or not missing  # else the last one on the way is what it can go on from
        checkpoint = save_checkpoint(recording.writer.store, self.model) if self._checkpoints and is_over else None
        self._end("partial" if missing else "complete", error=missing, checkpoint=checkpoint)
        if keeper is not None and is_over:
            keeper.end(recording.writer)
