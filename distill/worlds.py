"""The family that a run's stores were recorded in: where its transformer can live."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import JsonValue

from historystore.documents import canonical_json
from historystore.errors import InvalidValue
from historystore.spaces import space_to_json
from historystore.splits import Task
from historystore.store import Store
from historystore.tasks import Family, family, find

from .results import args_text
from .run import Run, RunDocument

FIRST_FRESH_SEED = 1 << 32
"""Above every seed that a recorder takes (`historystore.seeds.LARGEST_SEED`)."""
MOST_DRAWS = 1000
"""Seeds that are tried for each fresh task: a family that has few tasks gives the same ones again."""


def args_of(stores: Iterable[Store]) -> dict[str, JsonValue] | None:
    """Return the family's arguments that all learners of some stores were recorded with; None where they differ."""
    found = {canonical_json(args): args for store in stores for args in (it.spec.env_args for it in store.learners)}
    return next(iter(found.values()), {}) if len(found) < 2 else None


def find_family(document: RunDocument) -> Family | None:
    """Return a run's family, or None where this package has none in which the run's transformer could live.

    What a store says of its family loads no module of anybody else's.
    """
    if document.family_args is None:
        return None
    found = find(document.family, document.family_args)
    return found if found is not None and _has_same_spaces(found, document) else None


def family_of(run: Run, env_args: Mapping[str, JsonValue]) -> Family:
    """Return a run's family, with some arguments other than the run was trained with.

    Raises:
        InvalidValue: an unknown family or argument, another version, or other spaces than the run was trained on; or
            the stores had several arguments and none are given.
    """
    document = run.document
    if document.family_args is None and not env_args:
        raise InvalidValue(
            f"{run.path}: its stores were recorded with differing arguments of {document.family}. Say which to "
            "evaluate in, with --env-arg."
        )
    known = family(document.family, {**(document.family_args or {}), **env_args})
    if document.family_version not in (None, known.version):
        raise InvalidValue(
            f"{run.path}: was trained on version {document.family_version} of {known.name}, this is "
            f"{known.version}. Train it again."
        )
    if not _has_same_spaces(known, document):
        where = f"{known.name} with {args_text(known.args) or 'its defaults'}"
        raise InvalidValue(
            f"{run.path}: was trained on other spaces than those of {where}, "
            f"which are {known.observation_space} and {known.action_space}. Give arguments that keep the spaces."
        )
    return known


def trained_args(run: Run) -> dict[str, JsonValue] | None:
    """Return the arguments that a run's stores were recorded with, but for defaults; None where learners differ."""
    args = run.document.family_args
    return None if args is None else family(run.document.family, args).args


def fresh_tasks(known: Family, run: Run, *, count: int, seed: int) -> tuple[Task, ...]:
    """Draw tasks from seeds that no recorder takes, none of them a task of the run's stores, each once.

    Raises:
        InvalidValue: the family has fewer such tasks.
    """
    split = run.document.split
    seen = {canonical_json(task) for task in (*split.train, *split.validation, *split.test)}
    drawn: list[Task] = []
    first = FIRST_FRESH_SEED * (1 + seed)
    for number in range(first, first + (known.num_tasks or MOST_DRAWS * count)):
        task = known.task_of_seed(number)
        if canonical_json(task) not in seen:
            seen.add(canonical_json(task))
            drawn.append(task)
        if len(drawn) == count:
            return tuple(drawn)
    raise InvalidValue(
        f"{run.path}: {known.name} has {len(drawn)} tasks that the run's stores do not hold, got --fresh {count}. "
        "Ask for fewer, or for --split test."
    )


def _has_same_spaces(known: Family, document: RunDocument) -> bool:
    """Whether a family's observations and actions are those that a run was trained on."""
    spaces = [space_to_json(known.observation_space), space_to_json(known.action_space)]
    return canonical_json(spaces) == canonical_json([document.observation_space, document.action_space])
