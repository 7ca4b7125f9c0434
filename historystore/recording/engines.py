"""The engines that learners learn by: what a worker asks of one, and the known ones by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from historystore.documents import LearnerSpec
from historystore.recording.messages import Finished
from historystore.writer import StoreWriter

DEFAULT = "sb3"


class Interrupted(Exception):  # noqa: N818 - no error
    """The worker is asked to seal and leave; raised by `Session.watch`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What an engine gets of the worker it learns in."""

    writer: StoreWriter
    fields: tuple[str, ...] | None
    """The optional step fields to record; None for all."""
    checkpoints: str | None
    """``final``, or ``every=N`` for checkpoints on the way as well."""
    watch: Callable[[int], None]
    """To be called often, with the steps so far of the learners under way, all together; raises `Interrupted`."""


@runtime_checkable
class Engine(Protocol):
    """A way to carry out learners' specifications."""

    def check(self, template: LearnerSpec, *, fields: Sequence[str] | None) -> None:
        """Load what is needed, build the learner once, and see that its steps have the fields that are asked for.

        Warnings and whatever is raised go to the user.
        """
        ...

    def group_size(self, template: LearnerSpec) -> int:
        """Return how many learners a worker should be handed at once, at most."""
        ...

    def learn(self, specs: Sequence[LearnerSpec], session: Session) -> Iterator[Finished]:
        """Learn and record some learners of one template, and say of each how it ended.

        A learner that raises ends as failed, and the others go on. On `Interrupted` those under way are closed as
        partial. Only the disk's refusal is raised.

        Raises:
            WriteFailed: a shard could not be written.
        """
        ...


def _sb3(_policies: str | None) -> Engine:
    from historystore.recording.engine import Sb3Engine

    return Sb3Engine()


def _classic(policies: str | None) -> Engine:
    from historystore.classic.engine import ClassicEngine

    return ClassicEngine(policies=policies)


def _lockstep(_policies: str | None) -> Engine:
    from historystore.lockstep.engine import LockstepEngine

    return LockstepEngine()


_ENGINES: dict[str, Callable[[str | None], Engine]] = {"sb3": _sb3, "lockstep": _lockstep, "classic": _classic}


def engines() -> list[str]:
    """List the names of the engines, the default one first."""
    return list(_ENGINES)


def engine_of(spec: LearnerSpec, *, policies: str | None = None) -> Engine:
    """Load the engine of a specification.

    Its name is a hyperparameter, left out for the default one: the same algorithm draws other random numbers in another
    engine, so it is another learner. `policies` is the store of the models that act, where specifications name some.
    """
    return _ENGINES[str(spec.hyperparameters.get("engine", DEFAULT))](policies)
