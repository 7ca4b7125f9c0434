"""Lockstep as the engine that learns: many small learners advance together (imports stable_baselines3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from importlib import metadata
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from stable_baselines3 import DQN

from historystore import tasks
from historystore.documents import LearnerSpec, Provenance
from historystore.errors import WriteFailed
from historystore.lockstep.checkpoint import become
from historystore.lockstep.dqn_run import STEPS_AT_ONCE, DqnRun
from historystore.lockstep.features import Features
from historystore.lockstep.limits import ENGINE, check_recording
from historystore.lockstep.on_policy_run import OnPolicyRun
from historystore.lockstep.recording import Recording
from historystore.lockstep.stretch import Run
from historystore.lockstep.template import check_model
from historystore.lockstep.worlds import Worlds
from historystore.recording.engine import build_model
from historystore.recording.engines import Interrupted, Session
from historystore.recording.messages import Finished
from historystore.sb3.checkpoint import save_checkpoint
from historystore.sb3.provenance import sb3_provenance

_MOST_LEARNERS = 256
_MOST_BYTES = 300 << 20
"""What the steps that a group holds in memory may take: replay buffers, or all steps between two updates."""


class LockstepEngine:
    """PPO, A2C and DQN with small networks: learners that ride together cost a fraction of what each alone costs.

    A learner's result does not depend on who rides with it, and is the one that Stable-Baselines3's `train()` makes of
    the same rollout and minibatches (`tests/test_lockstep_ppo.py`).
    """

    def check(self, template: LearnerSpec, *, fields: Sequence[str] | None) -> None:
        """Build the learner once.

        Raises:
            InvalidValue: it, or a field, is one that only Stable-Baselines3 itself can do.
        """
        check_recording(fields=fields, checkpoints=None)
        template_model(template)

    def group_size(self, template: LearnerSpec) -> int:
        """Return how many learners fit: more are hardly faster."""
        model = template_model(template)
        view = model.observation_space
        recorded = (
            _num_bytes(view) + _num_bytes(tasks.family(template.family, template.env_args).observation_space) + 80
        )
        if isinstance(model, DQN):
            remembered = min(model.buffer_size, template.num_steps) * (2 * _num_bytes(view) + 16)
            num_bytes = remembered + STEPS_AT_ONCE * template.num_streams * recorded
        else:
            seen = 2 * 4 * Features(view).num  # as they come, and in the table of an update
            num_bytes = model.n_steps * template.num_streams * (recorded + seen)
        return max(1, min(_MOST_LEARNERS, _MOST_BYTES // num_bytes))

    def learn(self, specs: Sequence[LearnerSpec], session: Session) -> Iterator[Finished]:
        """Learn all of them together.

        Should anything raise, their attempts end as failed, and those that had not ended are learned again as two
        halves: the learner that makes it raise ends alone, and complete attempts hide the failed ones of the others.
        """
        ended = set()
        try:
            for finished in _learned(specs, session):
                ended.add(finished.seed)
                yield finished
        except WriteFailed:
            raise
        except Exception as error:  # noqa: BLE001 - recorded with the learner; the others go on
            if len(specs) > 1:
                rest = [spec for spec in specs if spec.seed not in ended]
                half = len(rest) // 2
                for part in (rest[:half], rest[half:]):
                    if part:
                        yield from self.learn(part, session)
                return
            session.writer.begin(specs[0]).finish(status="failed", error=_text(error))
            yield _finished(specs[0], "failed", num_steps=0, error=_text(error))


def _num_bytes(space: gym.Space[Any]) -> int:
    return int(np.prod(space.shape or (1,))) * np.dtype(space.dtype).itemsize


def template_model(template: LearnerSpec) -> Any:
    """Build the Stable-Baselines3 model that learners in lockstep are like."""
    hyperparameters = {name: value for name, value in template.hyperparameters.items() if name != "engine"}
    model = build_model(template.model_copy(update={"hyperparameters": hyperparameters}))
    check_model(model)
    return model


def _learned(specs: Sequence[LearnerSpec], session: Session) -> Iterator[Finished]:
    model = template_model(specs[0])
    riders = specs if len(specs) > 1 else [specs[0], specs[0]]  # products of a single matrix round otherwise
    family = tasks.family(specs[0].family, specs[0].env_args)
    num_streams = specs[0].num_streams
    envs = family.make_batched([spec.task for spec in riders for _ in range(num_streams)])
    seeds = [None if spec.seed is None else spec.seed + stream for spec in riders for stream in range(num_streams)]
    worlds = Worlds(envs, seeds=seeds)
    run: Run = DqnRun(model, riders, worlds) if isinstance(model, DQN) else OnPolicyRun(model, riders, worlds)
    recording = Recording(
        session.writer, specs, fields=session.fields, provenance=partial(_provenance, model, environment=family.env_id)
    )
    steps_of = partial(_watched, session, recording, num_streams)
    try:
        while not run.is_done:
            recording.add(run.advance(steps_of))
            yield from _diverged(specs, run, recording)
    except Interrupted:
        yield from _ended(specs, run, recording, "partial", error="interrupted")
        return
    except WriteFailed:
        raise
    except Exception as error:
        if len(specs) == 1:
            yield from _ended(specs, run, recording, "failed", error=_text(error))
            return
        for learner in recording.under_way:
            recording.finish(learner, "failed", error=_text(error))
        raise
    for learner in recording.under_way:
        checkpoint = None
        if session.checkpoints is not None:
            become(model, run, learner, specs[learner])
            checkpoint = save_checkpoint(session.writer.store, model)
        yield from _ended(specs, run, recording, "complete", checkpoint=checkpoint, learners=[learner])


def _watched(session: Session, recording: Recording, num_streams: int, steps: int) -> None:
    session.watch(steps * num_streams * len(recording.under_way))


def _diverged(specs: Sequence[LearnerSpec], run: Run, recording: Recording) -> Iterator[Finished]:
    """End the learners whose parameters are no longer numbers; the others go on."""
    is_finite = run.population.is_finite()
    broken = [learner for learner in recording.under_way if not is_finite[learner]]
    error = f"FloatingPointError: a parameter is not finite after {run.num_steps} steps. Lower the learning rate."
    yield from _ended(specs, run, recording, "failed", error=error, learners=broken)


def _ended(
    specs: Sequence[LearnerSpec],
    run: Run,
    recording: Recording,
    status: Literal["complete", "failed", "partial"],
    *,
    error: str | None = None,
    checkpoint: str | None = None,
    learners: Sequence[int] | None = None,
) -> Iterator[Finished]:
    """End some learners, all that are under way if not said which."""
    for learner in recording.under_way if learners is None else learners:
        recording.finish(learner, status, error=error, checkpoint=checkpoint)
        yield _finished(specs[learner], status, num_steps=run.num_steps * specs[learner].num_streams, error=error)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _finished(
    spec: LearnerSpec, status: Literal["complete", "failed", "partial"], *, num_steps: int, error: str | None
) -> Finished:
    assert spec.seed is not None
    return Finished(seed=spec.seed, status=status, num_steps=num_steps, error=error)


def _provenance(model: Any, spec: LearnerSpec, *, environment: str) -> Provenance:
    found = sb3_provenance(model, spec, environment=environment)
    return found.model_copy(update={"engine": ENGINE, "engine_version": metadata.version("historystore")})
