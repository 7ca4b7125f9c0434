"""Which steps of a store are visible: one pure function of the set of its shards.

- A shard that another one replaces is invisible.
- Of an attempt, the row of its latest seal counts.
- An attempt that continues another takes its parent's steps up to that point; the parent's later ones are hidden.
- An attempt is complete if it says so and its segments really cover the steps it says; of several, the lowest id shows.
- Of what several shards hold of one attempt, each step counts once.
- Without one, the attempt with the longest unbroken beginning shows, as partial (or failed); ties go to the lowest id.

The order in which shards arrive never matters (tests/test_store_visible.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from historystore.documents import LearnerRow, Status, canonical_json

SHARD, LEARNER, STREAM, FIRST_STEP, OFFSET, LENGTH = range(6)
"""The columns of a matrix of pieces: shard (its place among the visible names), the learner's row in that shard, and
the segment."""
Pieces = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSummary:
    """What visibility depends on in a shard."""

    name: str
    replaces: tuple[str, ...]
    learners: tuple[LearnerRow, ...]
    segments: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """The per-stream steps of a history that one attempt has lived."""

    attempt: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleLearner:
    """The attempt at a learner that shows, and where its steps lie."""

    row: LearnerRow
    status: Status
    num_steps: tuple[int, ...]
    """Visible steps of each stream."""
    links: tuple[Link, ...]
    pieces: Pieces
    """Sorted by stream and step; within a stream they join without gaps from step 0 on."""

    @property
    def has_recorded_digest(self) -> bool:
        """Whether the row's digest is the digest of what is visible."""
        return self.num_steps == self.row.num_steps


@dataclass(slots=True, kw_only=True)
class _Attempt:
    row: LearnerRow
    matrices: list[Pieces]


_Attempts = dict[str, _Attempt]


def visible_shards(shards: Iterable[ShardSummary]) -> tuple[ShardSummary, ...]:
    """Return the shards that no other one replaces, by name."""
    shards = tuple(shards)
    hidden = {name for shard in shards for name in shard.replaces}
    return tuple(sorted((shard for shard in shards if shard.name not in hidden), key=lambda shard: shard.name))


def visible_learners(shards: Iterable[ShardSummary]) -> tuple[VisibleLearner, ...]:
    """Return what shows of each learner, by id. Shards in pieces are counted as `visible_shards` orders them."""
    learners: dict[str, _Attempts] = {}
    for index, shard in enumerate(visible_shards(shards)):
        _gather(learners, shard, index)
    return tuple(_shown(learners[learner]) for learner in sorted(learners))


def superseded(shards: Iterable[ShardSummary]) -> frozenset[tuple[str, str]]:
    """Return (learner, attempt) of what does not show because another attempt is complete.

    Nobody reads such an attempt, apart from steps that the complete one has taken over; the rest of it may be gone.
    """
    visible = visible_shards(shards)
    complete = {each.row.learner: each.row.attempt for each in visible_learners(visible) if each.status == "complete"}
    attempts = {(row.learner, row.attempt) for shard in visible for row in shard.learners}
    return frozenset((learner, each) for learner, each in attempts if complete.get(learner, each) != each)


def _gather(learners: dict[str, _Attempts], shard: ShardSummary, index: int) -> None:
    segments = shard.segments
    owner = np.asarray(segments["learner"])
    columns = [np.full(len(owner), index), owner, *(segments[k] for k in ("stream", "first_step", "offset", "length"))]
    matrix = np.stack([np.asarray(column, np.int64) for column in columns], axis=1)
    matrix = matrix[np.argsort(owner, kind="stable")]
    bounds = np.searchsorted(matrix[:, LEARNER], np.arange(len(shard.learners) + 1))
    for i, row in enumerate(shard.learners):
        attempts = learners.setdefault(row.learner, {})
        attempt = attempts.setdefault(row.attempt, _Attempt(row=row, matrices=[]))
        attempt.matrices.append(matrix[bounds[i] : bounds[i + 1]])
        if _is_later(row, attempt.row):
            attempt.row = row


def _is_later(row: LearnerRow, other: LearnerRow) -> bool:
    """Whether a row is of a later seal; rows of one seal are equal, unless someone meddled with them."""
    if row.sequence != other.sequence:
        return row.sequence > other.sequence
    return row != other and canonical_json(row) > canonical_json(other)


def _shown(attempts: _Attempts) -> VisibleLearner:
    """Choose among the attempts at one learner."""
    whole = (_candidate(attempts, attempt, stop=None) for attempt in sorted(attempts))
    for candidate in whole:
        if candidate.status == "complete":
            return candidate
    partial = [_candidate(attempts, attempt, stop=_taken_over(attempts, attempt)) for attempt in sorted(attempts)]
    return max(partial, key=lambda candidate: sum(candidate.num_steps))


def _taken_over(attempts: _Attempts, attempt: str) -> int | None:
    """Return the step from which another attempt continues this one, if any does."""
    continuations = (other.row.continues for other in attempts.values())
    return min((c.step for c in continuations if c is not None and c.attempt == attempt), default=None)


def _candidate(attempts: _Attempts, attempt: str, *, stop: int | None) -> VisibleLearner:
    row = attempts[attempt].row
    links = _links(attempts, attempt, stop=stop)
    pieces, num_steps = _contiguous(_clipped(attempts, links), num_streams=row.spec.num_streams)
    status = row.status
    if status == "complete" and (num_steps != row.num_steps or stop is not None):
        status = "partial"
    return VisibleLearner(row=row, status=status, num_steps=num_steps, links=links, pieces=pieces)


def _links(attempts: _Attempts, attempt: str, *, stop: int | None) -> tuple[Link, ...]:
    """Return an attempt and those it continues, first one first."""
    end = np.iinfo(np.int64).max if stop is None else stop
    links: list[Link] = []
    current: str | None = attempt
    while current in attempts and current not in [link.attempt for link in links]:
        continues = attempts[current].row.continues
        start = 0 if continues is None else min(continues.step, end)
        links.append(Link(attempt=current, start=start, stop=end))
        current, end = (None, 0) if continues is None else (continues.attempt, start)
    return tuple(reversed(links))


def _clipped(attempts: _Attempts, links: Sequence[Link]) -> Pieces:
    """Return all pieces of some attempts, each cut to the steps that count."""
    parts = [np.zeros((0, 6), np.int64)]
    for link in links:
        pieces = np.concatenate(attempts[link.attempt].matrices)
        start = np.maximum(pieces[:, FIRST_STEP], link.start)
        stop = np.minimum(pieces[:, FIRST_STEP] + pieces[:, LENGTH], link.stop)
        parts.append(_cut(pieces, start, stop)[stop > start])
    return np.concatenate(parts)


def _cut(pieces: Pieces, start: Int[np.ndarray, " n"], stop: Int[np.ndarray, " n"]) -> Pieces:
    cut = pieces.copy()
    cut[:, OFFSET] += start - pieces[:, FIRST_STEP]
    cut[:, FIRST_STEP], cut[:, LENGTH] = start, stop - start
    return cut


def _contiguous(pieces: Pieces, *, num_streams: int) -> tuple[Pieces, tuple[int, ...]]:
    """Keep of each stream what covers it without a gap from step 0 on, each step once."""
    order = np.lexsort(
        (pieces[:, OFFSET], pieces[:, SHARD], -pieces[:, LENGTH], pieces[:, FIRST_STEP], pieces[:, STREAM])
    )
    pieces = pieces[order]
    stop = pieces[:, FIRST_STEP] + pieces[:, LENGTH]
    is_first = np.diff(pieces[:, STREAM], prepend=-1) != 0
    expected = np.where(is_first, 0, np.roll(stop, 1))
    if not np.array_equal(pieces[:, FIRST_STEP], expected):
        pieces = _walked(pieces)
    num_steps = np.zeros(num_streams, np.int64)
    np.add.at(num_steps, pieces[:, STREAM], pieces[:, LENGTH])
    return pieces, tuple(num_steps.tolist())


def _walked(pieces: Pieces) -> Pieces:
    """Walk sorted pieces that overlap or leave gaps; of an overlap the first stays."""
    kept: list[np.ndarray] = []
    stream, reached = -1, 0
    for piece in pieces:
        if piece[STREAM] != stream:
            stream, reached = piece[STREAM], 0
        skip, stop = reached - piece[FIRST_STEP], piece[FIRST_STEP] + piece[LENGTH]
        if skip < 0 or stop <= reached:
            continue
        kept.append(piece + np.array([0, 0, 0, skip, skip, -skip]))
        reached = stop
    return np.stack(kept) if kept else pieces[:0]
