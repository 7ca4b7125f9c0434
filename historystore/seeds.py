"""Seeds of learners, as a person writes them: `0-99,205,300-310`."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from operator import index

from historystore.errors import InvalidValue

LARGEST_SEED = 2**32 - 1
"""NumPy's global generator, which Stable-Baselines3 seeds, takes 32 bits."""

_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


class Seeds:
    """A set of seeds in ascending order, kept as ranges: a billion cost as little as one."""

    def __init__(self, ranges: Iterable[range]) -> None:
        self.ranges = _folded(ranges)
        self._stops = tuple(accumulate(len(span) for span in self.ranges))

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    def __iter__(self) -> Iterator[int]:
        for span in self.ranges:
            yield from span

    def __contains__(self, seed: object) -> bool:
        if not isinstance(seed, int):
            return False
        place = bisect_right(self.ranges, seed, key=lambda span: span.start) - 1
        return place >= 0 and seed in self.ranges[place]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seeds) and self.ranges == other.ranges

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __str__(self) -> str:
        return ",".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in self.ranges)

    def __repr__(self) -> str:
        return f"Seeds({self})"


def parse_seeds(seeds: str | int | Iterable[int]) -> Seeds:
    """Parse seeds: text of inclusive ranges and single seeds, one integer, or any integers.

    A seed named twice counts once, and the order does not matter.

    Raises:
        InvalidValue: nothing is named, a part is neither N nor A-B, a range is reversed, or a seed needs over 32 bits.
    """
    if isinstance(seeds, Seeds):
        return seeds
    if isinstance(seeds, str):
        return Seeds([_parsed_range(part.strip(), text=seeds) for part in seeds.split(",")])
    try:
        given = [index(seed) for seed in ([seeds] if isinstance(seeds, int) else seeds)]
    except TypeError:
        raise InvalidValue(f"seeds: expected integers, got {seeds!r}. Name them like '0-99,205'.") from None
    if not given:
        raise InvalidValue("seeds: none given, expected at least one. Name them like '0-99,205'.")
    return Seeds([_checked_range(seed, seed, text=str(seed)) for seed in given])


def _parsed_range(part: str, *, text: str) -> range:
    match = _RANGE.fullmatch(part)
    if match is None:
        raise InvalidValue(f"seeds: expected ranges like 0-99,205, got {part!r} in {text!r}. Write A-B or N.")
    first = int(match[1])
    return _checked_range(first, int(match[2] or first), text=part)


def _checked_range(first: int, last: int, *, text: str) -> range:
    if last < first:
        raise InvalidValue(f"seeds: a range goes from low to high, got {text}. Write {last}-{first}.")
    if first < 0 or last > LARGEST_SEED:
        raise InvalidValue(f"seeds: a seed lies between 0 and {LARGEST_SEED}, got {text}. Choose smaller ones.")
    return range(first, last + 1)


def _folded(ranges: Iterable[range]) -> tuple[range, ...]:
    """Return the same seeds as disjoint ranges in order, neighbours joined."""
    folded: list[range] = []
    for span in sorted(ranges, key=lambda span: span.start):
        if folded and span.start <= folded[-1].stop:
            folded[-1] = range(folded[-1].start, max(folded[-1].stop, span.stop))
        else:
            folded.append(span)
    return tuple(folded)
