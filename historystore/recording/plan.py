"""Which learners a recording needs: presets and overrides resolved, and what the store already holds left out."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from historystore import tasks
from historystore.classic.settings import ENGINE as CLASSIC
from historystore.documents import LearnerSpec
from historystore.errors import InvalidValue, SpaceMismatch
from historystore.fields import check_names
from historystore.folder import DOCUMENT, check_free
from historystore.lockstep.limits import ENGINE as LOCKSTEP
from historystore.lockstep.limits import check_recording as check_lockstep
from historystore.places import Place, place_of
from historystore.recording.algorithms import Algorithm, algorithm
from historystore.recording.engines import DEFAULT, engines
from historystore.recording.hyperparameters import resolve_hyperparameters
from historystore.recording.policies import resolve_policy, source_space
from historystore.recording.presets import preset
from historystore.recording.recorded_policies import POLICY_FROM, RECORDED, RecordedPolicies, recorded_policies
from historystore.recording.signature import signature
from historystore.resumption import checkpoint_interval
from historystore.seeds import Seeds, parse_seeds
from historystore.shards import FormatName, Profile, shard_format
from historystore.store import Store
from historystore.store import open as open_store
from historystore.writer import SEAL_BYTES, SEAL_S

Number = TypeVar("Number", int, float)
MOST_LEARNERS = 1_000_000
DEFAULT_SEAL_MB = SEAL_BYTES / 2**20
DEFAULT_SEAL_S = SEAL_S


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPlan:
    """A recording that has been checked and not yet begun; `run()` carries it out."""

    place: Place
    template: LearnerSpec
    """The learner without its task, its seed, and the model that acts."""
    seeds: Seeds
    todo: tuple[int, ...]
    """The seeds whose learners are recorded, in order; the others are complete."""
    num_retried: int
    """Of those, learners that the store holds as partial or failed."""
    num_steps_asked: int
    """What was asked for; an algorithm that learns in rollouts lives whole ones (`template.num_steps`)."""
    fields: tuple[str, ...] | None
    checkpoints: str | None
    """None, ``final`` or ``every=N``, which means both."""
    num_without_checkpoint: int
    """Learners that the store holds complete, and without the checkpoint that is asked for: they stay so."""
    num_workers: int
    seal_mb: float
    seal_s: float
    format: FormatName
    profile: Profile | None
    """None for the format's own."""
    policies: RecordedPolicies | None
    """The trained models that act; None where none do."""

    @property
    def path(self) -> Path:
        """The store's folder, where it is local."""
        return self.place.path

    @property
    def num_skipped(self) -> int:
        """Learners that the store holds complete."""
        return len(self.seeds) - len(self.todo)

    @property
    def num_added(self) -> int:
        """Learners that the store does not hold."""
        return len(self.todo) - self.num_retried


def plan_recording(
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
) -> RecordPlan:
    """Resolve one learner for each seed and leave out those that the store at `out` holds complete.

    Nothing is written, but what an earlier recording of this machine could not upload is uploaded. Neither torch nor
    Stable-Baselines3 is loaded. What is not given comes from the preset of the algorithm and family, whose rollouts
    hold as many steps whatever `streams` is; `set` overrides single hyperparameters. The default for `out` is
    `<env>-<algo>` in the current directory, for `workers` one for each core.

    Raises:
        InvalidValue: an unknown name, a bad seed range, or a value that the algorithm does not take.
        NotAStore: something else is at `out`.
        SpaceMismatch: the store at `out` is of another family.
        Unreachable: the server of a remote store does not answer.
        WriteFailed: what waits for upload still cannot be uploaded.
    """
    family, wanted = tasks.family(env, env_args), _checked_count(parse_seeds(seeds))
    _check_recording(algorithm(algo), engine=engine, fields=fields, checkpoints=checkpoints)
    template, asked, policies = _template(
        algo, family, wanted, engine=engine, steps=steps, streams=streams, policy=policy, given=set or {}
    )
    shard_format(format, profile=profile)
    place = place_of(out if out is not None else _default_name(family, algo))
    todo, num_retried = _todo(_shared(place), template, wanted, policies)
    return RecordPlan(
        place=place,
        template=template,
        seeds=wanted,
        todo=todo,
        num_retried=num_retried,
        num_steps_asked=asked,
        fields=None if fields is None else tuple(dict.fromkeys(fields)),
        checkpoints=checkpoints,
        num_without_checkpoint=0 if checkpoints is None else _num_without_checkpoint(place, template, wanted, todo),
        num_workers=min(_positive("--workers", workers, _num_cores()), max(len(todo), 1)),
        seal_mb=_positive("--seal-mb", seal_mb, DEFAULT_SEAL_MB),
        seal_s=_positive("--seal-s", seal_s, DEFAULT_SEAL_S),
        format=format,
        profile=profile,
        policies=policies,
    )


def _template(
    algo: str,
    family: tasks.Family,
    seeds: Seeds,
    *,
    engine: str | None,
    steps: int | None,
    streams: int | None,
    policy: str | None,
    given: Mapping[str, Any],
) -> tuple[LearnerSpec, int, RecordedPolicies | None]:
    """Return the learner without task and seed, the steps that were asked for, and the models that act, if some do."""
    learning = algorithm(algo)
    chosen, known = preset(algo, family.name).for_streams(streams), signature(learning)
    num_streams = _positive("--streams", streams, chosen.num_streams)
    num_steps = _num_steps(steps, chosen.num_steps, algo=algo, env=family.name)
    hyperparameters = resolve_hyperparameters(known, chosen.hyperparameters, given)
    hyperparameters |= _engine_mark(engine or learning.engine, learning)
    policies = _policies(hyperparameters.pop(POLICY_FROM, None), family, seeds) if learning.engine == CLASSIC else None
    named = RECORDED if policies else resolve_policy(policy or chosen.policy, known, observations=source_space(family))
    template = LearnerSpec(
        family=family.name,
        env_args=family.args,
        algorithm=learning.name,
        policy=named,
        hyperparameters=hyperparameters,
        num_streams=num_streams,
        num_steps=_lived_steps(num_steps, hyperparameters, num_streams=num_streams),
    )
    return template, num_steps, policies


def _check_recording(
    learning: Algorithm, *, engine: str | None, fields: Sequence[str] | None, checkpoints: str | None
) -> None:
    """Refuse fields and checkpoints that nothing has, or not this engine."""
    if checkpoints is not None and learning.engine == CLASSIC:
        raise InvalidValue(f"--checkpoints: {learning.name} has no model to store, got {checkpoints}. Leave it out.")
    check_names(fields or ())
    checkpoint_interval(checkpoints)
    if engine == LOCKSTEP:
        check_lockstep(fields=fields, checkpoints=checkpoints)


def spec_of_seed(template: LearnerSpec, seed: int, *, policies: RecordedPolicies | None = None) -> LearnerSpec:
    """Return the specification of the learner with that seed: with its task, and the model that acts where one does."""
    task = tasks.family(template.family, template.env_args).task_of_seed(seed)
    spec = template.model_copy(update={"seed": seed, "task": task})
    if policies is None:
        return spec
    named = {**template.hyperparameters, POLICY_FROM: policies.checkpoint(task)}
    return spec.model_copy(update={"hyperparameters": named})


def _policies(path: str | None, family: tasks.Family, seeds: Seeds) -> RecordedPolicies | None:
    """Return the trained models in a store, one for the task of each seed."""
    if path is None:
        return None
    return recorded_policies(path, family=family, tasks=map(family.task_of_seed, seeds))


def _engine_mark(name: str, learning: Algorithm) -> dict[str, str]:
    """Return the hyperparameter that tells learners of this engine from those of the default one."""
    if name not in engines():
        raise InvalidValue(f"--engine: no engine is called {name!r}, expected {', '.join(engines())}. Check the name.")
    if (name == CLASSIC) != (learning.engine == CLASSIC):
        raise InvalidValue(f"--engine: {learning.name} learns by {learning.engine}, got {name}. Leave it out.")
    return {} if name == DEFAULT else {"engine": name}


def _default_name(family: tasks.Family, algo: str) -> str:
    """Return `<env>-<algo>`, with the arguments of the family that are not its defaults in between."""
    parts = [family.name, *(f"{name}-{value}" for name, value in family.args.items()), algo]
    return re.sub(r"[^\w.-]+", "-", "-".join(parts)).strip("-")


def _shared(place: Place) -> Place:
    """Refuse a place that every worker process would have for itself."""
    if str(place).startswith("memory://"):
        raise InvalidValue(f"{place}: lives within one process, and a recording has several. Choose another place.")
    return place


def _todo(
    place: Place, template: LearnerSpec, seeds: Seeds, policies: RecordedPolicies | None
) -> tuple[tuple[int, ...], int]:
    """Return the seeds that are not complete in the store, and how many of them it holds in another state."""
    place.settle()
    if not place.exists(DOCUMENT):
        check_free(place)
        return tuple(seeds), 0
    status = _matching_store(place, template.family).status_of()
    if status:
        states = {seed: status.get(spec_of_seed(template, seed, policies=policies).id) for seed in seeds}
    else:
        states = dict.fromkeys(seeds)
    todo = tuple(seed for seed, state in states.items() if state != "complete")
    return todo, sum(states[seed] is not None for seed in todo)


def _num_without_checkpoint(place: Place, template: LearnerSpec, seeds: Seeds, todo: Sequence[int]) -> int:
    """Count the learners among the complete ones that have no checkpoint."""
    complete = {spec_of_seed(template, seed).id for seed in set(seeds).difference(todo)}
    learners = open_store(place).learners if complete else ()
    return sum(learner.row.checkpoint is None for learner in learners if learner.id in complete)


def _matching_store(place: Place, family: str) -> Store:
    store = open_store(place)
    if store.document.family != family:
        raise SpaceMismatch(
            f"{place}: is a store of the family {store.document.family!r}, expected {family!r}. "
            "Record into another place with --out."
        )
    return store


def _lived_steps(num_steps: int, hyperparameters: Mapping[str, Any], *, num_streams: int) -> int:
    """Return the steps that the learner will live: Stable-Baselines3 only stops between whole rollouts.

    A rollout is `train_freq` steps of every stream where the algorithm has one (off-policy), else `n_steps` of them.
    One counted in episodes has no length known beforehand: such a learner may live longer than its `num_steps`.
    """
    length = hyperparameters.get("train_freq", hyperparameters.get("n_steps"))
    if isinstance(length, list) and len(length) == 2 and length[1] == "step":
        length = length[0]
    if not isinstance(length, int) or length < 1:
        return num_steps
    rollout = length * num_streams
    return math.ceil(num_steps / rollout) * rollout


def _num_steps(given: int | None, default: int | None, *, algo: str, env: str) -> int:
    if given is None and default is None:
        raise InvalidValue(
            f"--steps: how long {algo} needs on {env} is not known here, expected a number of environment steps. "
            "Say how many a learner lives, such as --steps 100000."
        )
    return _positive("--steps", given, default or 0)


def _positive(option: str, given: Number | None, default: Number) -> Number:
    if given is None:
        return default
    if not given > 0 or not math.isfinite(given):
        raise InvalidValue(f"{option}: expected a number above 0, got {given}. Leave it out or choose a larger one.")
    return given


def _checked_count(seeds: Seeds) -> Seeds:
    if len(seeds) > MOST_LEARNERS:
        raise InvalidValue(
            f"seeds: at most {MOST_LEARNERS:,} learners in one recording, got {len(seeds):,}. "
            "Record them in several ranges into the same store."
        )
    return seeds


def _num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
