"""Filtering, splitting and merging: what is kept is the same, and shards that can stay as they are do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from eventful_stores import eventful_store, everything, many_seals, problems_of, shards_of
from store_samples import ACTIONS, OBSERVATIONS, create, life, record, small_store

import historystore as hs
from historystore.algebra import filter_store, iter_filtered, iter_merged, merge_stores, split_store
from historystore.compact import compact
from historystore.errors import InvalidValue, NotAStore, SpaceMismatch
from historystore.splits import split_tasks
from historystore.windows import tasks_of


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> hs.Store:
    return eventful_store(tmp_path_factory.mktemp("eventful") / "store")


def inode(store: hs.Store, name: str) -> int:
    return (store.path / "shards" / name).stat().st_ino


@pytest.mark.parametrize(
    "where", ["seed < 3", "status == 'complete'", "status != 'complete'", "seed == 6", "seed >= 0"]
)
def test_filtered_learners_are_the_same_to_the_last_bit(eventful: hs.Store, tmp_path: Path, where: str) -> None:
    kept = filter_store(eventful, tmp_path / "out", where=where)
    truth = {one.id: one for one in eventful.learners if hs_holds(one, where)}
    assert everything(kept) == {key: value for key, value in everything(eventful).items() if key in truth}
    assert problems_of(kept.path) == []


def hs_holds(learner: hs.Learner, where: str) -> bool:
    names = {"seed": learner.spec.seed, "status": learner.status}
    return bool(eval(where, {}, names))  # the tests' own words


def test_a_shard_whose_learners_all_stay_is_the_same_file(eventful: hs.Store, tmp_path: Path) -> None:
    kept = filter_store(eventful, tmp_path / "out", where="seed >= 0")
    assert shards_of(kept.path) == shards_of(eventful.path)
    assert all(inode(kept, name) == inode(eventful, name) for name in shards_of(kept.path))


def test_only_a_shard_that_loses_learners_is_written_anew(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        for seed in range(4):
            record(writer, life(seed=seed))
            if seed in (1, 2):
                writer.seal()
    kept = filter_store(hs.open(tmp_path / "s"), tmp_path / "out", where=lambda learner: learner.spec.seed in (0, 2))
    assert len(shards_of(kept.path)) == 2
    assert len(shards_of(kept.path) & shards_of(tmp_path / "s")) == 1


def test_the_checkpoint_of_a_learner_travels_with_it(eventful: hs.Store, tmp_path: Path) -> None:
    kept = filter_store(eventful, tmp_path / "out", where="seed == 6")
    (folder,) = (kept.path / "checkpoints").iterdir()
    assert folder.name == kept.learners[0].row.checkpoint
    assert not (filter_store(eventful, tmp_path / "other", where="seed == 0").path / "checkpoints").exists()


def test_an_interrupted_run_is_completed_by_the_same_and_refused_by_another(eventful: hs.Store, tmp_path: Path) -> None:
    whole = filter_store(eventful, tmp_path / "whole", where="seed < 5")
    for num_shards in (0, 1, 3, 6):
        out = tmp_path / f"out-{num_shards}"
        progress = iter_filtered(eventful, out, where="seed < 5")
        for _ in range(num_shards):
            next(progress)
        progress.close()
        if num_shards:
            with pytest.raises(InvalidValue, match="holds another store"):
                filter_store(eventful, out, where="seed < 4")
        again = filter_store(eventful, out, where="seed < 5")
        assert (again.digest, again.document) == (whole.digest, whole.document)
        assert shards_of(out) == shards_of(whole.path)


def test_nothing_is_written_over_something_else(eventful: hs.Store, tmp_path: Path) -> None:
    other = small_store(tmp_path / "other")
    before = shards_of(other.path)
    with pytest.raises(InvalidValue) as caught:
        filter_store(eventful, other.path, where="seed == 0")
    assert str(caught.value) == (
        f"{other.path}: holds another store, expected nothing or what an interrupted run of this command left. "
        "Choose another place."
    )
    with pytest.raises(InvalidValue, match="holds another store"):
        merge_stores([eventful, other], other.path)
    with pytest.raises(InvalidValue, match="is a store, expected a folder for the parts"):
        split_store(eventful, other.path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").touch()
    with pytest.raises(NotAStore, match="other things in it"):
        filter_store(eventful, tmp_path / "folder", where="seed == 0")
    assert shards_of(other.path) == before


def test_a_condition_that_no_learner_meets_makes_no_store(eventful: hs.Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue) as caught:
        filter_store(eventful, tmp_path / "out", where="seed > 99")
    assert str(caught.value) == f"{eventful.path}: none of its 8 learners meets 'seed > 99'. Ask for less."
    assert not (tmp_path / "out").exists()


def test_the_parts_of_a_split_are_those_that_training_chooses(eventful: hs.Store, tmp_path: Path) -> None:
    split = split_store(eventful, tmp_path / "out", ratios=(0.6, 0.2, 0.2), seed=3)
    assert split == split_tasks(tasks_of([eventful]), ratios=(0.6, 0.2, 0.2), seed=3)
    parts = {name: hs.open(tmp_path / "out" / name) for name in ("train", "validation", "test")}
    for name, store in parts.items():
        assert tasks_of([store]) == list(split.part(name))
        assert problems_of(store.path) == []
    together = {key: value for store in parts.values() for key, value in everything(store).items()}
    assert together == everything(eventful)
    merged = merge_stores(list(parts.values()), tmp_path / "merged")
    assert (merged.digest, everything(merged)) == (eventful.digest, everything(eventful))
    assert problems_of(merged.path) == []


def test_a_part_without_tasks_is_not_written(eventful: hs.Store, tmp_path: Path) -> None:
    split_store(eventful, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["test", "train"]


def test_merging_keeps_every_shard_of_every_store_as_it_is(eventful: hs.Store, tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "other")) as writer:
        record(writer, life(seed=50), seals=(20,))
    other = hs.open(tmp_path / "other")
    merged = merge_stores([eventful, other], tmp_path / "out")
    assert shards_of(merged.path) == shards_of(eventful.path) | shards_of(other.path)
    assert all(inode(merged, name) == inode(other, name) for name in shards_of(other.path))
    assert everything(merged) == everything(eventful) | everything(other)
    assert problems_of(merged.path) == []
    assert merge_stores([other, eventful], tmp_path / "out").document == merged.document


def test_merging_a_store_with_itself_or_with_part_of_itself_is_the_same_again(
    eventful: hs.Store, tmp_path: Path
) -> None:
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        for seed in range(3):
            record(writer, life(seed=seed), seals=(20,) if seed == 1 else ())
    packed = hs.open(tmp_path / "s")
    for store, name in ((eventful, "a"), (packed, "b")):
        part = filter_store(store, tmp_path / f"{name}-part", where="seed == 1 or seed == 2")
        old = Path(shutil.copytree(store.path, tmp_path / f"{name}-compact"))
        for others in ([store], [part], [compact(old)], [part, hs.open(old)]):
            out = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
            merged = merge_stores([store, *others], out)
            assert everything(merged) == everything(store)
            assert problems_of(out) == []
            assert everything(compact(out)) == everything(store)
            assert problems_of(out) == []


def test_of_attempts_in_several_stores_the_complete_one_shows(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "a")) as writer:
        record(writer, life(seed=1), finish=None)
    whole = many_seals(tmp_path / "b", num_learners=2)
    merged = merge_stores([hs.open(tmp_path / "a"), whole], tmp_path / "out")
    assert everything(merged) == everything(whole)


def test_an_interrupted_merge_is_completed(eventful: hs.Store, tmp_path: Path) -> None:
    other = small_store(tmp_path / "other", num_learners=1)
    progress = iter_merged([eventful, other], tmp_path / "out")
    next(progress)
    progress.close()
    assert merge_stores([other, eventful], tmp_path / "out").digest == (
        merge_stores([eventful, other], tmp_path / "whole").digest
    )


def test_stores_of_other_families_or_spaces_are_not_merged(eventful: hs.Store, tmp_path: Path) -> None:
    maze = hs.create(tmp_path / "maze", family="maze", observation_space=OBSERVATIONS, action_space=ACTIONS)
    with pytest.raises(SpaceMismatch) as caught:
        merge_stores([eventful, maze], tmp_path / "out")
    assert str(caught.value) == (
        f'{maze.path}: has another family than {eventful.path}, expected "grid", got "maze". '
        "Merge stores that share it."
    )
    other = hs.create(tmp_path / "grid", family="grid", observation_space=OBSERVATIONS, action_space=OBSERVATIONS)
    with pytest.raises(SpaceMismatch, match="has another action space than"):
        merge_stores([eventful, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_part_of_a_compacted_store_never_hides_what_it_does_not_hold(eventful: hs.Store, tmp_path: Path) -> None:
    compacted = compact(Path(shutil.copytree(eventful.path, tmp_path / "compacted")), target_bytes=4000)
    for seed in range(8):
        part = filter_store(compacted, tmp_path / f"part-{seed}", where=f"seed == {seed}")
        merged = merge_stores([eventful, part], tmp_path / f"merged-{seed}")
        assert everything(merged) == everything(eventful)
        assert problems_of(merged.path) == []


def test_a_single_shard_can_be_filtered(tmp_path: Path) -> None:
    store = small_store(tmp_path / "s", num_learners=3)
    alone = shutil.copy(store.shard(0).path, tmp_path / "shard.h5")
    kept = filter_store(hs.open(alone), tmp_path / "out", where="seed >= 0")
    assert everything(kept) == everything(store)
