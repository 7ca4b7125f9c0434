from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import spec

from historystore.documents import Continuation, LearnerRow, Provenance
from historystore.visible import OFFSET, SHARD, ShardSummary, VisibleLearner, visible_learners, visible_shards

PROVENANCE = Provenance(engine="custom", engine_version="", algorithm_path="", environment="grid", host="here")
SPEC = spec(num_streams=2)


def row(
    attempt: str, num_steps: int, *, status: str = "partial", sequence: int = 0, after: tuple[str, int] | None = None
) -> LearnerRow:
    return LearnerRow(
        learner=SPEC.id,
        spec=SPEC,
        attempt=attempt,
        sequence=sequence,
        continues=None if after is None else Continuation(attempt=after[0], step=after[1]),
        provenance=PROVENANCE,
        status=status,
        num_steps=(num_steps, num_steps),
        num_updates=0,
        digest=f"{attempt}-{num_steps}",
        started="2026-01-01T00:00:00",
    )


def shard(name: str, *parts: tuple[LearnerRow, int, int], replaces: tuple[str, ...] = ()) -> ShardSummary:
    """A shard of parts (row, first step, stop): both streams back to back."""
    columns: dict[str, list[int]] = {key: [] for key in ("learner", "stream", "first_step", "offset", "length")}
    offset = 0
    for i, (_, first, stop) in enumerate(parts):
        for stream in range(2):
            for key, value in zip(columns, (i, stream, first, offset, stop - first), strict=True):
                columns[key].append(value)
            offset += stop - first
    return ShardSummary(
        name=name,
        replaces=replaces,
        learners=tuple(part[0] for part in parts),
        segments={key: np.array(column, np.int64) for key, column in columns.items()},
    )


def shown(*shards: ShardSummary) -> VisibleLearner:
    (learner,) = visible_learners(shards)
    return learner


def test_a_complete_attempt_beats_a_longer_partial_one() -> None:
    learner = shown(shard("a", (row("A", 50), 0, 50)), shard("b", (row("B", 40, status="complete"), 0, 40)))
    assert (learner.row.attempt, learner.status, learner.num_steps) == ("B", "complete", (40, 40))


def test_of_several_complete_attempts_the_lowest_id_shows() -> None:
    done = [row(attempt, 40, status="complete") for attempt in ("C", "A", "B")]
    assert shown(*(shard(str(i), (each, 0, 40)) for i, each in enumerate(done))).row.attempt == "A"


def test_without_a_complete_attempt_the_longest_shows_and_ties_go_to_the_lowest_id() -> None:
    assert shown(shard("a", (row("A", 30), 0, 30)), shard("b", (row("B", 40), 0, 40))).row.attempt == "B"
    assert shown(shard("a", (row("B", 30), 0, 30)), shard("b", (row("A", 30), 0, 30))).row.attempt == "A"


def test_a_failed_attempt_shows_as_failed() -> None:
    assert shown(shard("a", (row("A", 30, status="failed"), 0, 30))).status == "failed"


def test_the_row_of_the_latest_seal_counts() -> None:
    early, late = row("A", 20), row("A", 40, status="complete", sequence=1)
    for shards in ([early, late], [late, early]):
        learner = shown(
            *(shard(str(i), (each, 0 if each is early else 20, each.num_steps[0])) for i, each in enumerate(shards))
        )
        assert (learner.status, learner.num_steps, learner.has_recorded_digest) == ("complete", (40, 40), True)


def test_an_attempt_that_says_complete_without_covering_its_steps_is_partial() -> None:
    late = row("A", 40, status="complete", sequence=1)
    learner = shown(shard("b", (late, 20, 40)))
    assert (learner.status, learner.num_steps, learner.has_recorded_digest) == ("partial", (0, 0), False)
    learner = shown(shard("a", (row("A", 10), 0, 10)), shard("b", (late, 20, 40)))
    assert (learner.status, learner.num_steps) == ("partial", (10, 10))


def test_overlapping_copies_of_a_segment_are_counted_once() -> None:
    whole = row("A", 40, status="complete")
    learner = shown(shard("b", (whole, 0, 25)), shard("a", (whole, 0, 25)), shard("c", (whole, 20, 40)))
    assert learner.num_steps == (40, 40)
    assert learner.pieces[:, SHARD].tolist() == [0, 2, 0, 2]
    assert learner.pieces[:, OFFSET].tolist() == [0, 5, 25, 25]


def test_what_a_parent_lived_behind_the_point_of_continuation_is_hidden() -> None:
    parent, child = row("A", 100), row("B", 70, after=("A", 50))
    learner = shown(shard("a", (parent, 0, 100)), shard("b", (child, 50, 70)))
    assert (learner.row.attempt, learner.num_steps) == ("B", (70, 70))
    assert (learner.links[0].attempt, learner.links[0].stop) == ("A", 50)


def test_a_complete_parent_beats_the_attempt_that_continues_it() -> None:
    parent, child = row("A", 100, status="complete"), row("B", 70, after=("A", 50))
    assert shown(shard("a", (parent, 0, 100)), shard("b", (child, 50, 70))).num_steps == (100, 100)


def test_a_chain_of_continuations_takes_from_each_what_it_lived() -> None:
    rows = row("A", 30), row("B", 50, after=("A", 20)), row("C", 60, status="complete", after=("B", 40))
    learner = shown(shard("a", (rows[0], 0, 30), (rows[1], 20, 50)), shard("b", (rows[2], 40, 60)))
    assert (learner.status, learner.num_steps) == ("complete", (60, 60))
    assert [link.attempt for link in learner.links] == ["A", "B", "C"]


def test_attempts_that_continue_each_other_end_the_search_instead_of_hanging_it() -> None:
    rows = row("A", 30, after=("B", 10)), row("B", 30, after=("A", 10))
    assert shown(shard("a", (rows[0], 10, 30), (rows[1], 10, 30))).num_steps == (0, 0)


def test_a_replaced_shard_is_invisible_even_through_a_replaced_replacement() -> None:
    whole = row("A", 40, status="complete")
    old, middle = shard("a", (whole, 0, 40)), shard("b", (whole, 0, 40), replaces=("a",))
    new = shard("c", (whole, 0, 40), replaces=("b",))
    assert [each.name for each in visible_shards([old, middle, new])] == ["c"]
    assert shown(old, middle, new).pieces[:, SHARD].tolist() == [0, 0]


def test_no_shards_show_no_learners() -> None:
    assert visible_learners([]) == ()


attempts = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from(["partial", "complete", "failed"]),
        st.one_of(st.none(), st.tuples(st.integers(0, 4), st.integers(0, 30))),
        st.sets(st.integers(0, 30), max_size=4),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=200, deadline=None)
@given(attempts=attempts, lost=st.sets(st.integers(0, 20), max_size=3), seed=st.integers(0, 1000))
def test_the_order_in_which_shards_arrive_never_matters(
    attempts: list[tuple[int, str, tuple[int, int] | None, set[int]]], lost: set[int], seed: int
) -> None:
    shards = []
    for i, (length, status, parent, cuts) in enumerate(attempts):
        after = None if parent is None else (f"attempt-{parent[0]}", min(parent[1], length))
        start = 0 if after is None else after[1]
        bounds = sorted({start, length, *(cut for cut in cuts if start < cut < length)})
        for sequence, (first, stop) in enumerate(zip(bounds, bounds[1:] or bounds, strict=False)):
            last = status if stop == length else "partial"
            each = row(f"attempt-{i}", stop, status=last, sequence=sequence, after=after)
            shards.append(shard(f"{i}-{sequence}", (each, first, stop)))
    shards = [each for i, each in enumerate(shards) if i not in lost] or shards
    expected = visible_learners(shards)
    shuffled = list(shards)
    random.Random(seed).shuffle(shuffled)
    for order in (shuffled, shards[::-1]):
        for one, other in zip(visible_learners(order), expected, strict=True):
            assert (one.row, one.status, one.num_steps, one.links) == (
                other.row,
                other.status,
                other.num_steps,
                other.links,
            )
            assert np.array_equal(one.pieces, other.pieces)
    for learner in expected:
        covered = np.zeros((2, 61), int)
        for _, _, stream, first, _, length in learner.pieces.tolist():
            covered[stream, first : first + length] += 1
        for stream in range(2):
            assert covered[stream, : learner.num_steps[stream]].tolist() == [1] * learner.num_steps[stream]
            assert not covered[stream, learner.num_steps[stream] :].any()
