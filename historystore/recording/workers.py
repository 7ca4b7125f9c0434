"""Carrying out a plan: start the workers, follow them, and sum up."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial

from historystore import tasks
from historystore.card import write_card
from historystore.errors import Unreachable, WriteFailed
from historystore.folder import DOCUMENT, SHARDS
from historystore.places import Place
from historystore.recording.crew import Crew
from historystore.recording.launcher import Launcher
from historystore.recording.messages import Finished, Job, Warm
from historystore.recording.plan import RecordPlan, spec_of_seed
from historystore.recording.progress import Failure, Progress, RecordReport
from historystore.resumption import checkpoint_interval, sweep_checkpoints
from historystore.store import create
from historystore.store import open as open_store
from historystore.summary import learner_counts
from historystore.writer import StoreWriter

REPORT_S = 0.5


def run(plan: RecordPlan) -> Generator[Progress | RecordReport, None, None]:
    """Record what a plan lists: progress about twice a second, and the report at the very end.

    Closing the iterator early, or an exception such as KeyboardInterrupt, lets the workers seal what they have; their
    learners are then partial, and the same plan made again records the rest. The number of workers changes no digest.

    Raises:
        WriteFailed: the store cannot be written, or not any more.
        SpaceMismatch: the store at the path is of another family or has other spaces.
        InvalidValue: the engine refuses the learner's settings.
    """
    ended: dict[int, Finished] = {}
    seconds = 0.0
    if plan.todo:
        with _place_ready(plan.place):
            yield _progress(plan, None, _Size(plan.place), seconds=0.0)
            launcher, warm = _warm_launcher(plan)
        with launcher:
            _create_store(plan)
            ended, seconds = yield from _followed(plan, launcher, group_size=warm.group_size)
    try:
        write_card(open_store(plan.place, mode="a" if plan.todo else "r"))
    except WriteFailed:
        if plan.todo:  # else it was killed right before its card, and is on a read-only disk now
            raise
    yield _report(plan, ended, seconds=seconds)


@contextmanager
def _place_ready(place: Place) -> Iterator[None]:
    """Find out whether a store's place can be written; no folder is left where what follows is refused."""
    is_new = place.kind() is None
    place.prepare(SHARDS)  # an empty folder does not survive git or a zip file
    place.check_writable(SHARDS)
    try:
        yield
    except BaseException:
        if is_new and not place.exists(DOCUMENT):
            place.remove(SHARDS, ())
            place.remove("", ())
        raise


def _warm_launcher(plan: RecordPlan) -> tuple[Launcher, Warm]:
    """Start the launcher, and pass on what the engine says of the learner."""
    job = Job(
        store=plan.place.resolved(),
        template=spec_of_seed(plan.template, plan.todo[0], policies=plan.policies),
        fields=plan.fields,
        checkpoints=plan.checkpoints,
        seal_mb=plan.seal_mb,
        seal_s=plan.seal_s,
        format=plan.format,
        profile=plan.profile,
        policies=plan.policies,
    )
    launcher = Launcher(job)
    try:
        warm = launcher.warm_up()
    except BaseException:
        launcher.close()
        raise
    for text in warm.warnings:
        warnings.warn(text, stacklevel=4)
    return launcher, warm


def _create_store(plan: RecordPlan) -> None:
    """Create the store, or find it as it should be, and remove what no learner goes on from."""
    family = tasks.family(plan.template.family, plan.template.env_args)
    spaces = {"observation_space": family.observation_space, "action_space": family.action_space}
    store = create(plan.place, family=family.name, **spaces)
    if checkpoint_interval(plan.checkpoints) is not None:
        sweep_checkpoints(store)


def _followed(
    plan: RecordPlan, launcher: Launcher, *, group_size: int
) -> Generator[Progress, None, tuple[dict[int, Finished], float]]:
    """Run the workers to the end; return what became of each learner, and the seconds since workers could start."""

    def unsealed(finished: Mapping[int, Finished]) -> list[int]:
        plan.place.settle()
        status = open_store(plan.place).status_of()
        ids = {seed: spec_of_seed(plan.template, seed, policies=plan.policies).id for seed in finished}
        return [seed for seed, end in finished.items() if status.get(ids[seed]) != end.status]

    size = _Size(plan.place)
    crew = Crew(
        launcher,
        seeds=plan.todo,
        group_size=group_size,
        num_workers=plan.num_workers,
        unsealed=unsealed,
        give_up=partial(_record_failure, plan),
    )
    with closing(crew):
        started = time.monotonic()
        while not crew.is_done:
            until = time.monotonic() + REPORT_S
            while not crew.is_done and (timeout_s := until - time.monotonic()) > 0:
                crew.work(timeout_s=timeout_s)
            yield _progress(plan, crew, size, seconds=time.monotonic() - started)
    return crew.ended, time.monotonic() - started


def _record_failure(plan: RecordPlan, end: Finished) -> None:
    """Add an attempt without steps that says why there are no more; what dead workers sealed shows before it."""
    spec = spec_of_seed(plan.template, end.seed, policies=plan.policies)
    with StoreWriter(open_store(plan.place, mode="a"), format=plan.format, profile=plan.profile) as writer:
        writer.begin(spec).finish(status=end.status, error=end.error)


def _progress(plan: RecordPlan, crew: Crew | None, size: _Size, *, seconds: float) -> Progress:
    """Return how far the crew is; None has not begun."""
    planned = plan.template.num_steps * len(plan.todo)
    ended = crew.ended.values() if crew else ()
    num_steps = crew.num_steps if crew else 0
    steps_per_s = num_steps / seconds if seconds else 0.0
    return Progress(
        num_workers=crew.num_workers if crew else 0,
        num_learners=len(plan.todo),
        num_done=len(ended),
        num_failed=sum(end.status == "failed" for end in ended),
        num_steps=num_steps,
        num_steps_planned=planned,
        steps_per_s=steps_per_s,
        seconds_left=max(planned - num_steps, 0) / steps_per_s if steps_per_s else None,
        num_bytes=size.num_bytes(),
    )


def _report(plan: RecordPlan, ended: Mapping[int, Finished], *, seconds: float) -> RecordReport:
    store = open_store(plan.place)
    num_steps = sum(end.num_steps - end.num_resumed for end in ended.values())
    return RecordReport(
        store=str(plan.place),
        digest=store.digest,
        num_skipped=plan.num_skipped,
        num_retried=plan.num_retried,
        num_added=plan.num_added,
        failures=tuple(
            Failure(
                seed=seed, learner=spec_of_seed(plan.template, seed, policies=plan.policies).id, error=end.error or ""
            )
            for seed, end in sorted(ended.items())
            if end.status == "failed"
        ),
        learners=learner_counts(store),
        num_steps=store.num_steps,
        num_bytes=store.num_bytes,
        num_steps_recorded=num_steps,
        num_continued=sum(end.num_resumed > 0 for end in ended.values()),
        seconds=seconds,
        steps_per_s=num_steps / seconds if seconds else 0.0,
    )


class _Size:
    """The bytes of a store's shards, looked up as often as its place can bear; as before while nobody answers."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._num_bytes = 0
        self._looked = -math.inf

    def num_bytes(self) -> int:
        """Return the bytes of the shards that are whole by now."""
        if time.monotonic() - self._looked >= self._place.list_s:
            with suppress(Unreachable):
                sizes = self._place.sizes(SHARDS)
                self._num_bytes = sum(size for name, size in sizes.items() if not name.startswith("."))
            self._looked = time.monotonic()
        return self._num_bytes
