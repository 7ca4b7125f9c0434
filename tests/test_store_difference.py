"""Differences between stores: none between equal ones, and each in its place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from eventful_stores import eventful_store
from store_samples import ACTIONS, OBSERVATIONS, Life, create, life, record, small_store

import historystore as hs
from historystore.compact import compact
from historystore.difference import differences, iter_compared


def texts(one: hs.Store, other: hs.Store) -> list[str]:
    return [str(each) for each in differences(one, other)]


def data_texts(one: hs.Store, other: hs.Store) -> list[str]:
    return [str(each).partition(", ")[2] for each in differences(one, other, is_data_only=True)]


def store_of(path: Path, lived: Life, **options: object) -> hs.Store:
    with hs.StoreWriter(create(path)) as writer:
        record(writer, lived, **options)
    return hs.open(path)


def test_a_store_and_its_compacted_copy_are_the_same(tmp_path: Path) -> None:
    store = eventful_store(tmp_path / "s")
    copy = compact(Path(shutil.copytree(store.path, tmp_path / "copy")))
    assert texts(store, copy) == []


def test_the_same_learners_recorded_twice_differ_in_where_they_come_from_alone(tmp_path: Path) -> None:
    one, other = small_store(tmp_path / "a"), small_store(tmp_path / "b")
    assert data_texts(one, other) == []
    found = texts(one, other)
    assert len(found) == 2
    assert all("attempt" in text and text.endswith("not the same.") for text in found)


def test_learners_that_only_one_store_has_are_named(tmp_path: Path) -> None:
    one, other = small_store(tmp_path / "a", num_learners=1), small_store(tmp_path / "b", num_learners=2)
    (extra,) = set(other.status_of()) - set(one.status_of())
    for pair in ((one, other), (other, one)):
        assert f"learner {extra[:12]}: is only in {other.path}." in texts(*pair)


def test_another_family_is_named(tmp_path: Path) -> None:
    one = create(tmp_path / "a")
    other = hs.create(tmp_path / "b", family="maze", observation_space=OBSERVATIONS, action_space=ACTIONS)
    assert texts(one, other) == ["store, family: is not the same."]


def changed_step(lived: Life) -> None:
    lived.steps["action"][42, 1] += 1


def changed_end(lived: Life) -> None:
    lived.following[-1, 0] += 1


def changed_seed(lived: Life) -> None:
    lived.seeds[0, 2] += 1


def fewer_fields(lived: Life) -> None:
    del lived.steps["log_prob"]


CHANGES = {
    changed_step: ["steps/action: differs in stream 1 from step 42 on."],
    changed_end: ["final_observations/observation: differs in stream 0."],
    changed_seed: ["episodes: differ in stream 2: in first step, length or seed."],
    fewer_fields: [
        "fields: is action, log_prob, observation, reward, terminated, truncated, and action, observation, reward, "
        "terminated, truncated there."
    ],
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_learner_lived_differently_is_named_with_its_place(tmp_path: Path, change) -> None:
    lived = life(seed=1)
    change(lived)
    assert data_texts(store_of(tmp_path / "a", life(seed=1)), store_of(tmp_path / "b", lived)) == CHANGES[change]


def test_an_interrupted_learner_differs_in_status_steps_and_updates(tmp_path: Path) -> None:
    one = store_of(tmp_path / "a", life(seed=1))
    writer = hs.StoreWriter(create(tmp_path / "b"))
    learner = writer.begin(life(seed=1).spec)
    life(seed=1).add(learner, 0, 30)
    writer.close()
    found = data_texts(one, hs.open(tmp_path / "b"))
    assert found[:2] == [
        "status: is complete, and partial there.",
        "num_steps: is 60, 60, 60, and 30, 30, 30 there.",
    ]
    assert "steps/reward: differs in stream 2 from step 30 on." in found
    assert found[-1] == "updates: differ: in step, learning rate or a logged value."


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    one, other = small_store(tmp_path / "a"), small_store(tmp_path / "b", num_learners=3)
    last = list(iter_compared(one, other))[-1]
    assert (last.done, last.total) == (3, 3)
