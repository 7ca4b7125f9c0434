"""Values of no fixed size: as bytes, in stores of every format, and back."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damages import flip_in
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from space_samples import all_spaces, are_equal, sampled

import historystore as hs
from historystore.convert import convert
from historystore.errors import DamagedData, InvalidValue
from historystore.fields import flatten, unflatten
from historystore.packed import pack, unpack
from historystore.recover import recover
from historystore.shards import arrow, open_shard
from historystore.spaces import space_from_json, space_to_json
from historystore.verify import Depth, verify


@settings(max_examples=200, deadline=None)
@given(space=all_spaces(), seed=st.integers(0, 1000))
def test_a_value_of_any_space_survives_the_way_through_bytes(space: spaces.Space[Any], seed: int) -> None:
    for value in sampled(space, seed=seed, num_values=3):
        again = unpack(space_from_json(space_to_json(space)), pack(space, value))
        assert are_equal(again, value)
        assert again in space


@settings(max_examples=300, deadline=None)
@given(space=all_spaces(depth=1), seed=st.integers(0, 1000), place=st.integers(0, 10_000), change=st.integers(0, 257))
def test_changed_bytes_are_another_value_or_damage_and_nothing_else(
    space: spaces.Space[Any], seed: int, place: int, change: int
) -> None:
    """One byte is changed, left out (256) or doubled (257); many changes make a value, which has just these bytes."""
    data = pack(space, *sampled(space, seed=seed, num_values=1))
    place %= len(data)
    middle = {256: b"", 257: 2 * data[place : place + 1]}.get(change, bytes([change % 256]))
    changed = data[:place] + middle + data[place + 1 :]
    with contextlib.suppress(DamagedData):
        assert pack(space, unpack(space, changed)) == changed


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Text(3), 4),
        (spaces.Sequence(spaces.Discrete(3)), 4),
        (spaces.Sequence(spaces.Box(0, 1, (2,), np.float32)), [np.array([1 / 3, 0.1])]),
        (spaces.Sequence(spaces.Box(0, 1, (2,))), [np.zeros(3, "f4")]),
        (spaces.OneOf([spaces.Discrete(2)]), (1, 0)),
        (spaces.Graph(spaces.Discrete(2), None), spaces.GraphInstance(np.zeros(1, int), np.zeros(1, int), None)),
        (spaces.Tuple([spaces.Text(1), spaces.Text(1)]), ("a",)),
        (spaces.Dict({"a": spaces.Text(1)}), {"b": "a"}),
    ],
)
def test_what_is_no_value_of_a_space_is_refused(space: spaces.Space[Any], value: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^pack: [^\n]+\. [A-Z][^\n]+\.$"):
        pack(space, value)


def lived(path: Path, space: spaces.Space[Any], *, seed: int, name: str) -> tuple[hs.Store, list[Any]]:
    """Record 7 steps of one stream, sealed after the first 3; episodes end at steps 2 and 5."""
    values = sampled(space, seed=seed, num_values=10)
    store = hs.create(path, family="any", observation_space=space, action_space=space)
    observations = [values[i] for i in (0, 1, 2, 4, 5, 6, 8)]
    ends = {2: values[3], 5: values[7]}
    spec = hs.LearnerSpec(family="any", algorithm="a", policy="p", num_streams=1, num_steps=7)
    with hs.StoreWriter(store, format=name) as writer:
        learner = writer.begin(spec)
        for start, stop in ((0, 3), (3, 7)):
            following = (*observations, values[9])[stop]
            learner.add_steps(
                {
                    **_steps("observation", space, observations[start:stop]),
                    **_steps("action", space, values[start:stop]),
                    "reward": np.zeros((stop - start, 1)),
                    "terminated": np.array([[i in ends] for i in range(start, stop)]),
                    "truncated": np.zeros((stop - start, 1), bool),
                },
                final_observations=_batch(space, [ends[i] for i in range(start, stop) if i in ends]),
                next_observation=_batch(space, [following]),
            )
            writer.seal()
        learner.finish()
    return hs.open(path), [values[i] for i in (1, 2, 3, 5, 6, 7, 9)]


@pytest.mark.parametrize("profile", ["fast", "archive"])
def test_values_of_no_fixed_size_may_fill_many_blocks_of_an_arrow_shard(
    tmp_path: Path, profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow, "BLOCK_ROWS", 4)
    space = spaces.Text(6)
    values = flatten("observation", space, sampled(space, seed=0, num_values=11))["observation"]
    store = hs.create(tmp_path / "s", family="any", observation_space=space, action_space=spaces.Discrete(2))
    flags = np.zeros((10, 1), bool)
    steps = {"action": flags.astype(int), "reward": flags.astype(float), "terminated": flags, "truncated": flags}
    with hs.StoreWriter(store, format="arrow", profile=profile) as writer:
        spec = hs.LearnerSpec(family="any", algorithm="a", policy="p", num_streams=1, num_steps=10)
        learner = writer.begin(spec)
        learner.add_steps(
            {"observation": values[:10, None], **steps},
            final_observations={"observation": values[:0]},
            next_observation={"observation": values[10:]},
        )
        learner.finish()
    (history,) = hs.open(tmp_path / "s").learners[0].histories
    assert history.read(fields=["observation"])["observation"].tolist() == values[:10].tolist()
    assert history.read(5, 7, fields=["observation"])["observation"].tolist() == values[5:7].tolist()
    assert [problem for problem in verify(tmp_path / "s") if not problem.is_note] == []


def test_a_final_observation_keeps_the_zeros_at_its_end(tmp_path: Path) -> None:
    space = spaces.Sequence(spaces.Discrete(2))
    store = hs.create(tmp_path / "s", family="any", observation_space=space, action_space=spaces.Discrete(2))
    column = flatten("observation", space, [(1, 0), (0, 0)])["observation"]
    flags = np.zeros((1, 1), bool)
    steps = {"action": flags.astype(int), "reward": flags.astype(float), "terminated": flags, "truncated": flags}
    with hs.StoreWriter(store) as writer:
        learner = writer.begin(hs.LearnerSpec(family="any", algorithm="a", policy="p", num_streams=1, num_steps=1))
        learner.add_steps(
            {"observation": column[:1, None], **steps},
            final_observations={"observation": column[:0]},
            next_observation={"observation": column[1:]},
        )
    (learner,) = hs.open(tmp_path / "s").learners
    assert learner.histories[0].final_observation(0)["observation"].item() == column[1]


def _batch(space: spaces.Space[Any], values: list[Any], prefix: str = "observation") -> dict[str, np.ndarray]:
    """Return values as columns (rows, ...), one by one: a batch of nested values takes many forms."""
    rows = [flatten(prefix, space, _batched(space, value)) for value in values]
    names = flatten(prefix, space, _batched(space, space.sample()))
    return {name: np.concatenate([column[:0], *(row[name] for row in rows)]) for name, column in names.items()}


def _batched(space: spaces.Space[Any], value: Any) -> Any:
    """Return a batch of one value."""
    if isinstance(space, spaces.Dict):
        return {key: _batched(part, value[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_batched(part, item) for part, item in zip(space.spaces, value, strict=True))
    if isinstance(space, (spaces.Text, spaces.Sequence, spaces.Graph, spaces.OneOf)):
        return [value]
    return np.asarray(value)[None]


def _steps(prefix: str, space: spaces.Space[Any], values: list[Any]) -> dict[str, np.ndarray]:
    return {name: column[:, None] for name, column in _batch(space, values, prefix).items()}


@pytest.mark.parametrize("name", ["hdf5", "arrow"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(space=all_spaces(), seed=st.integers(0, 1000))
def test_a_store_keeps_every_value_of_any_space(
    tmp_path_factory: pytest.TempPathFactory, name: str, space: spaces.Space[Any], seed: int
) -> None:
    path = tmp_path_factory.mktemp("any") / "store"
    store, following = lived(path, space, seed=seed, name=name)
    values = sampled(space, seed=seed, num_values=10)
    (history,) = store.learners[0].histories
    columns = history.read(0, 7)
    expected = _batch(space, [values[i] for i in (0, 1, 2, 4, 5, 6, 8)])
    actions = _batch(space, values[:7], "action")
    for name, column in {**expected, **actions}.items():
        assert columns[name].dtype == column.dtype
        assert columns[name].tolist() == column.tolist() or columns[name].tobytes() == column.tobytes()
    nexts = history.next_observations(0, 7)
    for name, column in _batch(space, following).items():
        assert nexts[name].tolist() == column.tolist() or nexts[name].tobytes() == column.tobytes()
    unflatten("observation", space, columns)
    assert [problem for problem in verify(path) if not problem.is_note] == []


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(space=all_spaces(), seed=st.integers(0, 1000))
def test_from_hdf5_to_arrow_and_back_the_digest_stays_whatever_the_space(
    tmp_path_factory: pytest.TempPathFactory, space: spaces.Space[Any], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("way")
    store, _ = lived(folder / "store", space, seed=seed, name="hdf5")
    for source, target, name in (("store", "other", "arrow"), ("other", "back", "hdf5")):
        for _ in convert(folder / source, folder / target, format=name):
            pass
        assert hs.open(folder / target).digest == store.digest
        assert [problem for problem in verify(folder / target) if not problem.is_note] == []


def test_the_values_of_a_text_space_come_back_as_text(tmp_path: Path) -> None:
    space = spaces.Dict({"text": spaces.Text(5), "number": spaces.Discrete(3)})
    store, _ = lived(tmp_path / "s", space, seed=0, name="hdf5")
    columns = store.learners[0].histories[0].read(0, 7)
    texts = unflatten("observation", space, columns)["text"].tolist()
    assert texts == [value["text"] for value in np.array(sampled(space, seed=0, num_values=10))[[0, 1, 2, 4, 5, 6, 8]]]


@pytest.mark.parametrize("name", ["hdf5", "arrow"])
@pytest.mark.parametrize("depth", ["checksums", "semantics"])
def test_damaged_text_is_named_and_what_comes_before_it_is_saved(tmp_path: Path, name: str, depth: Depth) -> None:
    path = tmp_path / "s"
    store, _ = lived(path, spaces.Text(30, min_length=20), seed=0, name=name)
    observations = store.learners[0].histories[0].read(0, 3)["observation"].tolist()
    store.close()
    (shard,) = (one for one in (path / "shards").iterdir() if open_shard(one).segments["first_step"].tolist() == [3])
    flip_in(shard, "steps/observation")
    found = [problem.field for problem in verify(path, depth=depth) if not problem.is_note]
    assert found == [None, "observation"]
    losses = [(loss.rows, loss.fields) for state in recover(path, tmp_path / "out") for loss in state.losses]
    (history,) = hs.open(tmp_path / "out").learners[0].histories
    assert losses == [((history.num_steps, 7), ("observation",))]
    assert history.read(0, 3)["observation"].tolist() == observations
    assert [problem for problem in verify(tmp_path / "out") if not problem.is_note] == []


def test_text_that_was_not_packed_is_refused_and_nothing_is_added(tmp_path: Path) -> None:
    space = spaces.Text(5)
    store = hs.create(tmp_path / "s", family="any", observation_space=space, action_space=spaces.Discrete(2))
    with hs.StoreWriter(store) as writer:
        learner = writer.begin(hs.LearnerSpec(family="any", algorithm="a", policy="p", num_streams=1, num_steps=1))
        with pytest.raises(InvalidValue, match=r"observation has values that are not bytes; flatten\(\) packs them"):
            learner.add_steps(
                {
                    "observation": np.array([["abc"]]),
                    "action": np.zeros((1, 1), int),
                    "reward": np.zeros((1, 1)),
                    "terminated": np.zeros((1, 1), bool),
                    "truncated": np.zeros((1, 1), bool),
                },
                final_observations={"observation": np.zeros(0, object)},
                next_observation={"observation": np.array([b""], object)},
            )
        assert learner.num_steps == 0
