"""Minari: out as its own episodes, back as the learners that they were; and other people's datasets."""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium as gym
import h5py
import numpy as np
import pytest
from darkroom_learners import darkroom_store
from exchange_samples import exported, imported, problems, spaced_store
from gymnasium import spaces
from store_samples import OBSERVATIONS, create, life, record, small_store

import historystore as hs
from historystore.documents import Continuation
from historystore.errors import InvalidValue, MissingExtra, SpaceMismatch
from historystore.exchange import iter_exported, iter_imported
from historystore.replay import learner_digest

minari = pytest.importorskip("minari", reason="needs Python 3.11")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")

SPACES = {
    "dict": spaces.Dict({"z": spaces.Box(-1, 1, (3,)), "a": spaces.Dict({"b": spaces.Discrete(4, start=-1)})}),
    "tuple": spaces.Tuple([spaces.MultiBinary((2, 2)), spaces.Box(-np.inf, np.inf, (2,), np.float64)]),
    "image": spaces.Box(0, 255, (36, 36, 3), np.uint8),
    "number": spaces.Discrete(7),
    "text": spaces.Dict({"words": spaces.Text(6, min_length=0, charset="abñ√ "), "number": spaces.Discrete(3)}),
}


@pytest.fixture(scope="module")
def darkroom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return darkroom_store(tmp_path_factory.mktemp("minari") / "store")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def foreign_dataset(name: str, *, data_format: str, is_marked: bool = True) -> np.ndarray:
    """Create a dataset with Minari itself, of two episodes; return its observations."""
    rng = np.random.default_rng(0)
    env = gym.make("CartPole-v1")
    observations = rng.uniform(-0.1, 0.1, (2, 6, 4)).astype(np.float32)
    buffers = [
        minari.data_collector.EpisodeBuffer(
            seed=7 if i == 0 else None,
            observations=observations[i],
            actions=rng.integers(0, 2, 5),
            rewards=np.ones(5),
            terminations=np.array([False] * 4 + [is_marked]),
            truncations=np.zeros(5, bool),
            infos={"height": [step + 10.0 * i for step in range(6)]},
        )
        for i in range(2)
    ]
    minari.create_dataset_from_buffers(name, buffers, env=env, algorithm_name="SAC", data_format=data_format)
    return observations


def test_a_store_comes_back_with_every_learner_attempt_and_digest(darkroom: Path, tmp_path: Path) -> None:
    out = exported(darkroom, tmp_path / "darkroom-v0", to="minari")
    back = imported(tmp_path / "darkroom-v0", tmp_path / "back", of="minari")
    ours, theirs = hs.open(darkroom), hs.open(tmp_path / "back")
    assert (out.num_learners, out.num_steps, out.notes) == (5, ours.num_steps, ())
    assert (back.num_learners, back.num_steps, back.notes) == (5, ours.num_steps, ())
    assert theirs.digest == ours.digest
    assert [learner.row for learner in theirs.learners] == [learner.row for learner in ours.learners]
    assert theirs.updates_table().drop_columns("learner").equals(ours.updates_table().drop_columns("learner"))
    assert problems(tmp_path / "back") == []


def test_random_lives_with_both_kinds_of_end_come_back_with_their_digests(tmp_path: Path) -> None:
    store = small_store(tmp_path / "store", num_learners=3)
    exported(store.path, tmp_path / "lives-v0", to="minari")
    imported(tmp_path / "lives-v0", tmp_path / "back", of="minari")
    assert hs.open(tmp_path / "back").digest == store.digest


@pytest.mark.parametrize("kind", SPACES)
def test_nested_image_and_unbounded_spaces_come_back_bit_for_bit(kind: str, tmp_path: Path) -> None:
    path = spaced_store(tmp_path / "store", SPACES[kind], spaces.MultiDiscrete([3, 4]))
    exported(path, tmp_path / "sampled-v0", to="minari")
    report = imported(tmp_path / "sampled-v0", tmp_path / "back", of="minari")
    assert report.notes == ()
    assert hs.open(tmp_path / "back").digest == hs.open(path).digest
    assert problems(tmp_path / "back") == []


def test_minari_reads_the_episodes_with_their_final_observations_seeds_and_infos(darkroom: Path, root: Path) -> None:
    exported(darkroom, root / "darkroom-v0", to="minari")
    dataset, store = minari.load_dataset("darkroom-v0"), hs.open(darkroom)
    assert (dataset.total_episodes, dataset.total_steps) == (store.num_episodes, store.num_steps)
    assert (dataset.observation_space, dataset.action_space) == (store.observation_space, store.action_space)
    history = store.learners[1].histories[0]
    number = int(store.episode_start[history.index]) + 2
    episode = dataset[number]
    steps = history.read(40, 60)
    np.testing.assert_array_equal(episode.observations[:-1], steps["observation"])
    np.testing.assert_array_equal(episode.observations[-1], history.final_observation(59)["observation"])
    np.testing.assert_array_equal(episode.infos["value"], steps["value"])
    (metadata,) = dataset.storage.get_episode_metadata([number])
    assert metadata["seed"] == store.episodes.seed[number]
    assert (metadata["learner"], metadata["stream"], metadata["first_step"]) == (history.learner.id, 0, 40)
    assert [len(part) for part in minari.split_dataset(dataset, [10, 20], seed=0)] == [10, 20]


def test_an_episode_that_was_cut_is_truncated_in_minari_and_cut_again_in_the_store(tmp_path: Path) -> None:
    path = spaced_store(tmp_path / "store", SPACES["number"], spaces.Discrete(2))
    exported(path, tmp_path / "cut-v0", to="minari")
    dataset = minari.MinariDataset(tmp_path / "cut-v0" / "data")
    assert [bool(episode.truncations[-1]) for episode in dataset] == [False, False, True, True, True, True]
    imported(tmp_path / "cut-v0", tmp_path / "back", of="minari")
    assert hs.open(tmp_path / "back").episodes.is_cut.tolist() == [False, False, True] * 2


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_a_dataset_of_somebody_else_is_one_learner(data_format: str, root: Path, tmp_path: Path) -> None:
    observations = foreign_dataset("cart/pole-v0", data_format=data_format)
    report = imported(root / "cart" / "pole-v0", tmp_path / "store", of="minari")
    store = hs.open(tmp_path / "store")
    (learner,) = store.learners
    (history,) = learner.histories
    assert (report.num_learners, report.num_steps) == (1, 10)
    assert (learner.spec.family, learner.spec.algorithm) == ("CartPole-v1", "SAC")
    assert learner.row.provenance.engine == "import:minari"
    np.testing.assert_array_equal(history.read()["observation"], observations[:, :-1].reshape(10, 4))
    np.testing.assert_array_equal(history.next_observations()["observation"], observations[:, 1:].reshape(10, 4))
    assert history.read()["info/height"].tolist() == [1, 2, 3, 4, 5, 11, 12, 13, 14, 15]
    assert store.episodes.seed.tolist() == [7, -1]
    assert store.episodes.terminated.tolist() == [True, True]
    assert problems(store.path) == []


def test_an_episode_of_somebody_else_that_ends_unmarked_is_truncated(root: Path, tmp_path: Path) -> None:
    foreign_dataset("pole-v0", data_format="hdf5", is_marked=False)
    imported(root / "pole-v0", tmp_path / "store", of="minari")
    assert hs.open(tmp_path / "store").episodes.truncated.tolist() == [True, True]


def test_datasets_that_minari_combined_have_lost_their_learners(darkroom: Path, root: Path, tmp_path: Path) -> None:
    for name in ("one-v0", "two-v0"):
        exported(darkroom, root / name, to="minari")
    minari.combine_datasets([minari.load_dataset("one-v0"), minari.load_dataset("two-v0")], "both-v0")
    report = imported(root / "both-v0", tmp_path / "store", of="minari")
    assert (report.num_learners, report.num_steps) == (1, 2 * hs.open(darkroom).num_steps)


def test_histories_with_a_gap_are_told_of_and_imported_as_one_learner(darkroom: Path, tmp_path: Path) -> None:
    exported(darkroom, tmp_path / "darkroom-v0", to="minari")
    with h5py.File(tmp_path / "darkroom-v0" / "data" / "main_data.hdf5", "a") as file:
        file["episode_3"].attrs["first_step"] = 1000
    report = imported(tmp_path / "darkroom-v0", tmp_path / "store", of="minari")
    assert report.num_learners == 1
    assert report.notes == ("Episodes of its learners are missing or out of order, so it was imported as one learner.",)


def test_data_that_changed_on_the_way_is_told_by_the_learners_digest(darkroom: Path, tmp_path: Path) -> None:
    exported(darkroom, tmp_path / "darkroom-v0", to="minari")
    with h5py.File(tmp_path / "darkroom-v0" / "data" / "main_data.hdf5", "a") as file:
        file["episode_3/rewards"][0] = 17
    learner = hs.open(darkroom).learners[0].id
    report = imported(tmp_path / "darkroom-v0", tmp_path / "store", of="minari")
    assert report.notes == (
        f"learner {learner[:12]} has another digest than when it was exported: not all of it came back.",
    )


def test_an_import_interrupted_anywhere_ends_as_an_undisturbed_one(
    darkroom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("historystore.exchange.alignment.SPAN_STEPS", 150)  # several blocks a learner
    exported(darkroom, tmp_path / "darkroom-v0", to="minari")
    ours = hs.open(darkroom)
    for num_states in range(1, 16):
        store = tmp_path / f"store-{num_states}"
        states = iter_imported(tmp_path / "darkroom-v0", store, of="minari")
        for _ in range(num_states):
            next(states)
        states.close()
        assert problems(store) == []
        begun = {one.id: one for one in hs.open(store).learners}
        assert all(one.digest == learner_digest(one) for one in begun.values())
        again = imported(tmp_path / "darkroom-v0", store, of="minari")
        theirs = hs.open(store)
        assert theirs.digest == ours.digest
        assert theirs.status_of() == ours.status_of()
        assert problems(store) == []
        assert again.num_learners + again.num_skipped == 5
        for mine, other in zip(ours.learners, theirs.learners, strict=True):
            is_torn = mine.id in begun and begun[mine.id].digest != mine.digest
            assert (mine.row.attempt == other.row.attempt) is not is_torn
    third = imported(tmp_path / "darkroom-v0", store, of="minari")
    assert (third.num_learners, third.num_skipped, third.num_steps) == (0, 5, 0)


def test_last_episodes_whose_end_is_lost_stay_behind_and_are_told_of(tmp_path: Path) -> None:
    lived = life(end_rate=0.1)
    with hs.StoreWriter(create(tmp_path / "store")) as writer:
        first = record(writer, lived, finish=None)
    with hs.StoreWriter(hs.open(tmp_path / "store", mode="a")) as writer:
        second = writer.begin(lived.spec, continues=Continuation(attempt=first.attempt, step=30))
        lived.add(second, 30, 45)
        (lost,) = writer.seal()
        lived.add(second, 45, 60)
    (tmp_path / "store" / "shards" / lost).unlink()
    (learner,) = hs.open(tmp_path / "store").learners
    assert [history.num_steps for history in learner.histories] == [30] * 3
    kept = [int((history.episodes.first_step + history.episodes.length)[-1]) for history in learner.histories]
    assert min(kept) < 30
    out = exported(tmp_path / "store", tmp_path / "lost-v0", to="minari")
    assert out.num_steps == sum(kept)
    num_lost = sum(stop < 30 for stop in kept)
    assert out.notes == (
        f"learner {learner.id[:12]}: the last episodes of {num_lost} streams were left out, because what their last "
        "steps led to is lost.",
    )
    back = imported(tmp_path / "lost-v0", tmp_path / "back", of="minari")
    assert back.num_steps == 3 * min(kept)
    assert [note.partition(" ")[2] for note in back.notes] == [
        f"{learner.id[:12]} has another digest than when it was exported: not all of it came back."
    ]


def test_an_export_that_is_not_exhausted_leaves_nothing(darkroom: Path, tmp_path: Path) -> None:
    states = iter_exported(darkroom, tmp_path / "out" / "darkroom-v0", to="minari")
    next(states)
    assert list((tmp_path / "out").iterdir()) != []
    states.close()
    assert list((tmp_path / "out").iterdir()) == []


def test_another_stores_spaces_are_refused(darkroom: Path, tmp_path: Path) -> None:
    exported(darkroom, tmp_path / "darkroom-v0", to="minari")
    hs.create(tmp_path / "store", family="darkroom", observation_space=OBSERVATIONS, action_space=spaces.Discrete(9))
    with pytest.raises(SpaceMismatch):
        imported(tmp_path / "darkroom-v0", tmp_path / "store", of="minari")


def test_a_damaged_dataset_is_one_line(darkroom: Path, tmp_path: Path) -> None:
    exported(darkroom, tmp_path / "darkroom-v0", to="minari")
    data = tmp_path / "darkroom-v0" / "data" / "main_data.hdf5"
    data.write_bytes(data.read_bytes()[:5000])
    with pytest.raises(InvalidValue) as caught:
        imported(tmp_path / "darkroom-v0", tmp_path / "store", of="minari")
    assert str(caught.value).startswith(f"{tmp_path / 'darkroom-v0'}: cannot be read, ")
    assert not (tmp_path / "store").exists()


def test_what_is_no_dataset_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="cannot be read as a Minari dataset, No data found in data path"):
        imported(tmp_path, tmp_path / "store", of="minari")


def test_a_part_of_a_space_that_minari_could_not_read_back_is_refused(tmp_path: Path) -> None:
    path = spaced_store(tmp_path / "store", spaces.Dict({"a/b": spaces.Discrete(2)}), spaces.Discrete(2))
    with pytest.raises(InvalidValue, match=r"Minari has no place for observation/a%2Fb\. Export to parquet"):
        exported(path, tmp_path / "slash-v0", to="minari")


@pytest.mark.parametrize("space", [spaces.OneOf([spaces.Discrete(2)]), spaces.Sequence(spaces.Discrete(2))], ids=str)
def test_a_kind_of_space_that_minari_lacks_is_refused(space: spaces.Space, tmp_path: Path) -> None:
    path = spaced_store(tmp_path / "store", spaces.Tuple([spaces.Discrete(2), space]), spaces.Discrete(2))
    with pytest.raises(InvalidValue, match=r"Minari has no place for Tuple\(.*\)\. Export to parquet"):
        exported(path, tmp_path / "strange-v0", to="minari")


def test_a_name_that_minari_would_not_load_is_refused(darkroom: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue) as caught:
        exported(darkroom, tmp_path / "dark room", to="minari")
    assert str(caught.value) == (
        "dark room: is no id of a Minari dataset, expected a name such as dark-room-v0. Rename it."
    )
    assert list(tmp_path.iterdir()) == []


def test_without_minari_the_error_names_the_extra(
    darkroom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(MissingExtra) as caught:
        exported(darkroom, tmp_path / "darkroom-v0", to="minari")
    assert str(caught.value) == "minari: is not installed. Run pip install 'historystore[exchange]'."
