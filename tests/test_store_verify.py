"""`verify`: a sound store is silent, and whatever is wrong with one is named with its place."""

import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from store_samples import ACTIONS, OBSERVATIONS, WAYS, checkpoint, create, life, record, small_store, spec

import historystore as hs
from historystore.card import write_card
from historystore.documents import Continuation, canonical_json, sha256_hex, signed
from historystore.errors import HistoryError, NotAStore, StoreNotFound
from historystore.index import Index, read_index
from historystore.problems import Problem
from historystore.shards import ShardTables, open_shard, shard_format
from historystore.shards.protocol import TABLES
from historystore.verify import DEPTHS, iter_checked, verify


def problems_of(path: Path) -> list[Problem]:
    return [problem for problem in verify(path) if not problem.is_note]


def texts(path: Path) -> list[str]:
    return [str(problem) for problem in verify(path)]


def shards_of(path: Path) -> list[Path]:
    return sorted(path.glob("shards/*.*"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return complete_store(tmp_path_factory.mktemp("whole") / "store", way="hdf5")


@pytest.fixture(scope="module")
def whole_arrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return complete_store(tmp_path_factory.mktemp("whole") / "store", way="arrow")


def complete_store(path: Path, *, way: str) -> Path:
    """Record everything there is: several shards, an unfinished learner, a checkpoint, a card and an index."""
    with hs.StoreWriter(create(path), **WAYS[way]) as writer:
        name = checkpoint(path)
        record(writer, life(seed=0), cuts=(7, 33), seals=(20, 41))
        record(writer, life(seed=1, num_streams=1), finish=None).finish(status="complete", checkpoint=name)
        record(writer, life(seed=2, num_streams=2, num_steps=35), seals=(30,), finish=None)
        record(writer, life(seed=3), finish="failed")
    write_card(hs.open(path))
    return path


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "store"))


def test_a_sound_store_has_no_problem_and_no_note(whole: Path) -> None:
    assert texts(whole) == []
    assert len(shards_of(whole)) == 4


@pytest.mark.parametrize("seed", range(4))
def test_no_way_of_cutting_and_sealing_a_life_is_a_problem(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with hs.StoreWriter(create(tmp_path / "store"), seal_bytes=rng.choice([200, 3000])) as writer:
        for number in range(3):
            num_steps = rng.randrange(1, 120)
            seals = sorted(rng.sample(range(num_steps), min(num_steps - 1, 3)))[1:]
            lived = life(seed=number, num_steps=num_steps, num_streams=rng.randrange(1, 4), end_rate=rng.random())
            record(writer, lived, cuts=[num_steps // 2], seals=seals, finish=rng.choice(["complete", "partial", None]))
    assert texts(tmp_path / "store") == []


def test_an_empty_store_and_a_learner_without_a_step_are_no_problem(tmp_path: Path) -> None:
    assert texts(create(tmp_path / "empty").path) == []
    with hs.StoreWriter(create(tmp_path / "store")) as writer:
        writer.begin(life().spec).finish(status="failed", error="ValueError: no")
    assert texts(tmp_path / "store") == []


def test_progress_ends_at_the_whole(whole: Path) -> None:
    last = list(iter_checked(whole))[-1]
    assert last.done == last.total == 2 * sum(shard.stat().st_size for shard in shards_of(whole))


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Flip a bit, cut, or put noise over some bytes."""
    place = rng.randrange(len(data))
    if rng.random() < 0.25:
        return data[:place]
    length = rng.choice([1, 1, 1, 16])
    noise = bytes([data[place] ^ (1 << rng.randrange(8))]) if length == 1 else rng.randbytes(length)
    return data[:place] + noise + data[place + length :]


def read_all(path: Path) -> dict[tuple[str, int], dict[str, np.ndarray]]:
    """Read every history that can be read."""
    found = {}
    with suppress(HistoryError):
        for history in (history for learner in hs.open(path).learners for history in learner.histories):
            with suppress(HistoryError):
                columns = history.read() | {"next": history.next_observations()["observation"]}
                found[history.learner.id, history.stream] = columns
    return found


@pytest.mark.parametrize("pattern", ["store.json", "index.arrow", "README.md", "shards/*", "checkpoints/*/*"])
def test_damage_anywhere_is_found_in_its_file_and_never_returned_as_data(
    store: Path, whole: Path, pattern: str
) -> None:
    check_damage(store, whole, pattern)


def test_damage_anywhere_in_an_arrow_shard_is_found_too(tmp_path: Path, whole_arrow: Path) -> None:
    check_damage(Path(shutil.copytree(whole_arrow, tmp_path / "store")), whole_arrow, "shards/*")


def check_damage(store: Path, whole: Path, pattern: str) -> None:
    """Damage files of a copy of a store, one after the other."""
    rng = random.Random(pattern)
    truth = read_all(whole)
    for place in sorted(whole.glob(pattern)):
        file = str(place.relative_to(whole))
        for _ in range(6):
            data = damaged(place.read_bytes(), rng)
            if data == place.read_bytes():
                continue
            (store / file).write_bytes(data)
            assert {problem.file for problem in problems_of(store)} == {file}
            for key, columns in read_all(store).items():
                for name, column in columns.items():
                    assert np.array_equal(column, truth[key][name][: len(column)]), (file, key, name)
            shutil.copy(place, store / file)
            shutil.copy(whole / "index.arrow", store)


def test_damage_in_a_field_is_named_with_its_rows(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "store")) as writer:
        record(writer, life(num_steps=30_000, num_streams=1))
    (shard,) = shards_of(tmp_path / "store")
    with h5py.File(shard) as file:
        dataset = file["steps/reward"]
        places = [dataset.id.get_chunk_info(i).byte_offset + 9 for i in (1, 2)]
    data = bytearray(shard.read_bytes())
    for place in places:
        data[place] ^= 4
    shard.write_bytes(data)
    whole_file, field = problems_of(tmp_path / "store")
    assert whole_file.message == (
        "is not named by its SHA-256: it does not hold what was written to it. Restore it from a copy."
    )
    assert (field.file, field.field, field.rows) == (f"shards/{shard.name}", "reward", (8192, 24576))
    assert "cannot be read" in field.message


Change = Callable[[ShardTables], ShardTables]


def rewritten(store: Path, change: Change, *, shard: int = -1, way: str = "hdf5") -> Path:
    """Replace a shard of a store by one that says something else, and is named by its SHA-256."""
    path = shards_of(store)[shard]
    reader = open_shard(path)
    tables = change(
        ShardTables(
            header=reader.header,
            learners=reader.learners,
            steps={field.name: reader.read(field.name, 0, reader.header.num_steps) for field in reader.header.fields},
            **{name: getattr(reader, name) for name in TABLES},
        )
    )
    shapes = {
        name: shape.model_copy(update={"num_rows": len(getattr(tables, name)["learner"])})
        for name, shape in tables.header.tables.items()
    }
    written = shard_format(WAYS[way]["format"], profile=WAYS[way].get("profile"))
    data = written.encode(replace(tables, header=tables.header.model_copy(update={"tables": shapes})))
    path.unlink()
    place = path.parent / f"{sha256_hex(data)}{written.suffix}"
    place.write_bytes(data)
    (store / "index.arrow").unlink(missing_ok=True)
    return place


def changed(table: str, column: str, row: int, value: object) -> Change:
    def change(tables: ShardTables) -> ShardTables:
        columns = dict(getattr(tables, table))
        columns[column] = columns[column].copy()
        columns[column][row] = value(columns[column][row]) if callable(value) else value
        return replace(tables, **{table: columns})

    return change


def without(table: str, row: int) -> Change:
    def change(tables: ShardTables) -> ShardTables:
        return replace(tables, **{table: {k: np.delete(v, row, axis=0) for k, v in getattr(tables, table).items()}})

    return change


def claimed(**keys: object) -> Change:
    def change(tables: ShardTables) -> ShardTables:
        return replace(tables, learners=tuple(row.model_copy(update=keys) for row in tables.learners))

    return change


LIES = {
    "a return": (changed("episodes", "return", 1, 99.0), "episodes", "its return is not the sum of its rewards"),
    "a length": (changed("episodes", "length", 1, np.negative), "episodes", "its length is not what the steps say"),
    "a flag": (changed("episodes", "truncated", 1, True), "episodes", "its truncated is not what the steps say"),
    "a start": (changed("episodes", "first_step", 1, 1), "episodes", "is no episode that the steps make"),
    "a missing episode": (without("episodes", 1), "episodes", "which the episode table does not have"),
    "a seed": (changed("episodes", "seed", 1, 5), "learners", "its digest is"),
    "a step": (changed("steps", "observation", 3, 8), "learners", "its digest is"),
    "an update": (changed("updates", "values/train/loss", 1, 8.0), "learners", "its digest is"),
    "a missing update": (without("updates", 1), "updates", "updates 0 to 3 are not there once each"),
    "a missing end": (without("final_observations", 0), "final_observations", "is missing"),
    "a digest": (claimed(digest="0" * 64), "learners", "its digest is 000000000000"),
    "more steps": (claimed(num_steps=(61,)), "segments", "steps 60 to 61 of learner"),
    "an offset": (changed("segments", "offset", 0, 1), "segments", "do not cover each of the 60 steps once"),
    "an owner": (changed("episodes", "learner", 0, 7), "episodes", "learner is no row of the learners"),
    "an id": (claimed(learner="f" * 64), "learners, row 0", "is not that of its specification"),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_shard_that_contradicts_itself_is_found_though_every_checksum_fits(tmp_path: Path, lie: str) -> None:
    change, field, text = LIES[lie]
    store = tmp_path / "store"
    small_store(store, num_learners=1, num_streams=1)
    rewritten(store, change)
    (shard,) = shards_of(store)
    found = [problem for problem in problems_of(store) if problem.field == field and text in problem.message]
    assert [problem.file for problem in found] == [f"shards/{shard.name}"], texts(store)


def test_rewriting_a_shard_without_a_lie_is_no_problem(tmp_path: Path) -> None:
    small_store(tmp_path / "store", num_learners=1, num_streams=1)
    rewritten(tmp_path / "store", lambda tables: tables)
    assert texts(tmp_path / "store") == []


def test_a_lie_in_an_attempt_that_continues_another_is_found(tmp_path: Path) -> None:
    lived, store = life(num_streams=1), tmp_path / "store"
    with hs.StoreWriter(create(store)) as writer:
        first = writer.begin(lived.spec)
        lived.add(first, 0, 40)
    with hs.StoreWriter(hs.open(store, mode="a")) as writer:
        second = writer.begin(lived.spec, continues=Continuation(attempt=first.attempt, step=25))
        lived.add(second, 25, 60)
        second.finish()
    assert hs.open(store).num_steps == 60
    assert texts(store) == []
    child = [open_shard(path).learners[0].continues is not None for path in shards_of(store)].index(True)
    shard = rewritten(store, changed("steps", "observation", 3, 8), shard=child)
    (problem,) = problems_of(store)
    assert (problem.file, problem.field) == (f"shards/{shard.name}", "learners")
    assert "its digest is" in problem.message


def test_a_lost_shard_is_named_by_the_index_and_missed_by_its_learner(store: Path) -> None:
    reader = next(r for r in map(open_shard, shards_of(store)) if (r.segments["first_step"] == 20).any())
    reader.path.unlink()
    lost, gap = sorted(problems_of(store), key=lambda problem: problem.file != f"shards/{reader.path.name}")[:2]
    assert lost.message.startswith("is gone: its steps are lost.")
    assert "steps 20 to 41 of learner" in gap.message


def test_a_shard_of_another_store_may_lie_in_one_of_the_same_family_and_spaces(store: Path, tmp_path: Path) -> None:
    other = small_store(tmp_path / "other", num_learners=6)
    shutil.copy(shards_of(other.path)[0], store / "shards")
    assert problems_of(store) == []


def test_a_shard_of_another_family_is_a_problem(store: Path, tmp_path: Path) -> None:
    other = hs.create(tmp_path / "other", family="maze", observation_space=OBSERVATIONS, action_space=ACTIONS)
    with hs.StoreWriter(other) as writer:
        writer.begin(spec(family="maze")).finish(status="failed")
    shutil.copy(shards_of(other.path)[0], store / "shards")
    (problem,) = problems_of(store)
    assert problem.message == ("cannot lie in this store: its family are not those of store.json. Move it to its own.")


def test_an_update_that_two_shards_hold_is_no_problem_unless_they_differ(tmp_path: Path) -> None:
    store = small_store(tmp_path / "store", num_learners=1).path
    copy = tmp_path / "copy.h5"
    shutil.copy(shards_of(store)[0], copy)
    rewritten(store, changed("updates", "wall_time_s", 0, 9.0))
    (store / "shards" / f"{sha256_hex(copy.read_bytes())}.h5").write_bytes(copy.read_bytes())
    assert ["updates 0 to 3 are not there once each" in text for text in texts(store)] == [True]
    rewritten(store, changed("episodes", "seed", 0, lambda seed: seed))
    rewritten(store, changed("updates", "wall_time_s", 0, 0.0))
    rewritten(store, changed("updates", "wall_time_s", 0, 0.0), shard=0)
    assert texts(store) == []


def test_a_shard_without_its_hash_for_a_name_is_a_problem_because_nobody_reads_it(store: Path) -> None:
    shard = shards_of(store)[0]
    shard.rename(shard.parent / "copy.h5")
    assert "shards/copy.h5" in {problem.file for problem in problems_of(store)}


def test_what_a_killed_recorder_left_is_a_note(store: Path) -> None:
    (store / "shards" / ".elsewhere-123-0123456789abcdef.tmp").write_bytes(b"half")
    (store / "notes.txt").write_text("mine")
    (folder,) = (store / "checkpoints").iterdir()
    (folder / "old.safetensors").write_bytes(b"")
    (store / ".gitattributes").write_text("hidden files are nobody's business")
    assert problems_of(store) == []
    assert [problem.file for problem in verify(store)] == [
        "notes.txt",
        "shards/.elsewhere-123-0123456789abcdef.tmp",
        f"checkpoints/{folder.name}/old.safetensors",
    ]


def test_a_stale_index_is_a_note_and_a_missing_one_is_none(store: Path) -> None:
    with hs.StoreWriter(hs.open(store, mode="a")) as writer:
        record(writer, life(seed=9))
    (note,) = verify(store)
    assert (note.file, note.is_note) == ("index.arrow", True)
    (store / "index.arrow").unlink()
    assert texts(store) == []


def test_an_index_that_says_something_else_than_the_shards_is_a_problem(store: Path) -> None:
    index = read_index(store / "index.arrow")
    assert index is not None
    columns = {name: index._value(name) for name in index._encoded}
    columns["episode_return"] = columns["episode_return"] + 1
    Index.of(columns).save(store / "index.arrow")
    assert texts(store) == [
        "index.arrow: is not what the shards say. It is derived: delete it, and the next opening makes it anew."
    ]


def test_a_checkpoint_that_a_learner_names_must_be_there(store: Path) -> None:
    (folder,) = (store / "checkpoints").iterdir()
    (folder / "model.json").unlink()
    (problem,) = problems_of(store)
    assert problem.file == f"checkpoints/{folder.name}"


@pytest.mark.parametrize("way", WAYS)
def test_each_depth_finds_what_the_one_before_it_cannot(tmp_path: Path, way: str) -> None:
    path = small_store(tmp_path / "store", num_learners=1, num_streams=1, num_steps=3000, way=way).path
    (shard,) = (path / "shards").iterdir()
    whole = shard.read_bytes()

    def num_problems() -> list[int]:
        return [sum(not problem.is_note for problem in verify(path, depth=depth)) for depth in DEPTHS]

    assert num_problems() == [0, 0, 0]
    for place in range(len(whole) // 2, len(whole), 997):
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        structure, checksums, semantics = num_problems()
        assert 0 < checksums == semantics
        if structure == 0 and checksums > 1:  # the name, and a field
            break
    else:
        pytest.fail("no step was hit")
    shard.write_bytes(whole)
    rewritten(path, changed("episodes", "return", 1, 99.0), way=way)
    assert num_problems() == [0, 0, 1]


def test_values_outside_the_space_are_kept_and_noted(tmp_path: Path) -> None:
    lived = life(num_streams=1)
    lived.steps["observation"][5] = 700
    with hs.StoreWriter(create(tmp_path / "store")) as writer:
        record(writer, lived)
    (note,) = verify(tmp_path / "store")
    assert (note.is_note, note.field, note.rows) == (True, "observation", (5, 6))
    assert note.message == "1 of 60 values lie outside the space, as the environment gave them."


def test_one_shard_can_be_verified_alone(whole: Path, tmp_path: Path) -> None:
    shard = max(shards_of(whole), key=lambda path: (open_shard(path).segments["first_step"] == 0).all())
    copy = Path(shutil.copy(shard, tmp_path))
    assert texts(copy) == []
    copy.write_bytes(copy.read_bytes()[:-1])
    assert problems_of(copy)[0].file == copy.name


def test_a_document_from_the_future_is_one_problem(store: Path) -> None:
    document = json.loads((store / "store.json").read_text())
    del document["digest"]
    (store / "store.json").write_bytes(canonical_json(signed(document | {"format_version": "9.0"})))
    (problem,) = problems_of(store)
    assert problem.file == "store.json"
    assert "pip install --upgrade historystore" in problem.message


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match="there is nothing"):
        list(verify(tmp_path / "nothing"))
    with pytest.raises(NotAStore, match="is no store"):
        list(verify(tmp_path))


def test_a_shard_that_went_missing_is_told_of_until_the_index_is_deleted_or_the_shard_is_back(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for seed in range(2):
        with hs.StoreWriter(create(path)) as writer:
            record(writer, life(seed=seed))
    store = hs.open(path)
    gone = path / "shards" / store.shard_names[0]
    data = gone.read_bytes()
    store.close()
    gone.unlink()
    for _ in range(2):
        assert len(hs.open(path).learners) == 1, "the index is made anew"
        (problem,) = (problem for problem in verify(path) if not problem.is_note)
        assert problem.file == f"shards/{gone.name}"
    gone.write_bytes(data)
    assert len(hs.open(path).learners) == 2
    assert [problem for problem in verify(path) if not problem.is_note] == []
    gone.unlink()
    (path / "index.arrow").unlink()
    assert len(hs.open(path).learners) == 1
    assert [problem for problem in verify(path) if not problem.is_note] == []
