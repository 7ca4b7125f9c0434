"""Which tasks train, validate and test: one function, so that everything that asks gets the same answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge
from pydantic import BaseModel, ConfigDict

from historystore.documents import canonical_json, sha256_hex
from historystore.errors import InvalidValue

Task = dict[str, Any]
"""JSON values by name. Not spelt as pydantic's JsonValue: run-time checkers cannot resolve that recursive type."""
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
DEFAULT_RATIOS = (0.7, 0.1, 0.2)
"""57, 8 and 16 of Dark Room's 81 goals: fewer than about 16 test tasks mislead."""


class Split(BaseModel):
    """Tasks for training, for choosing between trainings, and for the numbers reported at the end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: Annotated[int, Ge(0)]
    ratios: tuple[float, float, float]
    train: tuple[Task, ...]
    validation: tuple[Task, ...]
    test: tuple[Task, ...]

    def part(self, name: str) -> tuple[Task, ...]:
        """Return the tasks of one part; raises InvalidValue for a name that is no part."""
        if name not in PARTS:
            raise InvalidValue(f"split: no such part, expected one of {', '.join(PARTS)}, got {name!r}. Choose one.")
        tasks: tuple[Task, ...] = getattr(self, name)
        return tasks


def split_tasks(tasks: Sequence[Task], *, seed: int = 0, ratios: Sequence[float | int] = DEFAULT_RATIOS) -> Split:
    """Split tasks into train, validation and test.

    Streams and learners of one task are never independent, so a split is by task and by nothing else. Each task has a
    rank that only it and the seed decide (the SHA-256 of both), and the parts are cut from that order. So the order and
    the number of times in which tasks are given do not matter, and one task more moves few of the others.

    `ratios` are shares of any sum: (0.7, 0.1, 0.2) and (7, 1, 2) are the same; whole numbers that add up to the number
    of tasks come out exactly. Otherwise counts are rounded by largest remainder, and a share above zero gets a task at
    least. Raises InvalidValue where there are fewer tasks than such shares.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InvalidValue(f"split: seed is not a whole number from 0 up, got {seed!r}. Use one.")
    unique = {canonical_json(task): task for task in tasks}
    ranked = sorted(unique, key=lambda text: sha256_hex(f"{seed}:".encode() + text))
    num_train, num_validation, _ = _counts(len(ranked), ratios)
    cut = num_train + num_validation
    keys = {"train": ranked[:num_train], "validation": ranked[num_train:cut], "test": ranked[cut:]}
    parts = {name: tuple(unique[key] for key in sorted(part)) for name, part in keys.items()}
    return Split(seed=seed, ratios=tuple(ratios), **parts)


def _counts(total: int, ratios: Sequence[float | int]) -> list[int]:
    """Share out a total by largest remainder, at least one to each share above zero."""
    if len(ratios) != len(PARTS) or not all(math.isfinite(share) and share >= 0 for share in ratios) or not sum(ratios):
        raise InvalidValue(
            f"split: ratios are not three shares for {', '.join(PARTS)}, got {ratios}. Use such as {DEFAULT_RATIOS}."
        )
    wanted = sum(share > 0 for share in ratios)
    if total < wanted:
        raise InvalidValue(
            f"split: too few tasks, expected at least {wanted} for the ratios {ratios}, got {total}. "
            "Record more tasks, or set a share to 0."
        )
    exact = [share / sum(ratios) * total for share in ratios]
    counts = [max(math.floor(share), int(share > 0)) for share in exact]
    while sum(counts) < total:
        neediest = max(range(len(counts)), key=lambda i: exact[i] - counts[i])
        counts[neediest] += 1
    while sum(counts) > total:
        richest = max((i for i in range(len(counts)) if counts[i] > 1), key=lambda i: counts[i] - exact[i])
        counts[richest] -= 1
    return counts
