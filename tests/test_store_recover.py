"""`recover`: what can be read of a damaged store is saved, and what cannot is told, exactly."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from damages import MUTATIONS, flip_in, parts_of
from store_samples import WAYS, checkpoint, create, life, record, small_store

import historystore as hs
from historystore.card import write_card
from historystore.documents import Continuation, TableShape
from historystore.errors import DamagedData, NotAStore, StoreNotFound
from historystore.losses import Loss
from historystore.recover import recover
from historystore.shards import ShardTables, open_shard, read_tables, shard_format
from historystore.shards.protocol import TABLES
from historystore.verify import verify
from historystore.wreck import open_wreck
from historystore.writer import put_shard

FORMATS = ("hdf5", "arrow")


def recovered(source: Path, out: Path) -> list[Loss]:
    """Recover a store, hold that it passes `verify` and that the damaged one was not touched, and return the losses."""
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    losses = [loss for state in recover(source, out) for loss in state.losses]
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before
    assert [str(problem) for problem in verify(out) if not problem.is_note] == []
    return losses


def check_lost(whole: dict[tuple[str, int], dict[str, np.ndarray]], out: Path, losses: list[Loss]) -> None:
    """Hold that a store has everything of another one but what is said to be lost."""
    lost = {(loss.learner, loss.stream): loss.rows[0] for loss in losses if loss.what == "steps" and loss.rows}
    found = histories(out)
    for key, columns in whole.items():
        count = lost.get(key, len(columns["reward"]))
        assert len(found[key]["reward"] if key in found else ()) == count, key
        for name, column in columns.items():
            assert count == 0 or np.array_equal(found[key][name], column[:count]), (key, name)


def histories(path: Path) -> dict[tuple[str, int], dict[str, np.ndarray]]:
    """Read everything, and close the files: HDF5 would go on reading the old ones."""
    store = hs.open(path)
    found = {
        (learner.id, history.stream): history.read() | {"next": history.next_observations()["observation"]}
        for learner in store.learners
        for history in learner.histories
    }
    store.close()
    return found


def rerecorded(out: Path, *lives: object, way: str = "hdf5") -> str:
    """Record everything that is not complete again, and return the store's digest."""
    with hs.StoreWriter(hs.open(out, mode="a"), **WAYS[way]) as writer:
        status = hs.open(out).status_of()
        for lived in lives:
            if status.get(lived.spec.id) != "complete":
                record(writer, lived)
    return hs.open(out).digest


def only_shard(path: Path) -> Path:
    (shard,) = (path / "shards").iterdir()
    return shard


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_store_is_carried_over_as_it_is(tmp_path: Path, way: str) -> None:
    store = small_store(tmp_path / "store", way=way)
    assert recovered(store.path, tmp_path / "out") == []
    assert only_shard(store.path).samefile(tmp_path / "out" / "shards" / store.shard_names[0])
    assert hs.open(tmp_path / "out").digest == store.digest


@pytest.mark.parametrize("way", FORMATS)
def test_a_bit_anywhere_costs_no_more_than_is_said_and_recording_again_completes_it(tmp_path: Path, way: str) -> None:
    source = small_store(tmp_path / "whole", way=way, num_steps=20)
    assert set(PARTS) <= set(parts_of(only_shard(source.path)))
    whole, data = histories(source.path), only_shard(source.path).read_bytes()
    for number, part in enumerate(PARTS):
        folder = small_copy(source.path, tmp_path / f"store{number}")
        flip_in(only_shard(folder), part)
        out = tmp_path / f"out{number}"
        losses = recovered(folder, out)
        table, _, column = part.partition("/")
        expected = EXPECTED.get(table, {("steps", (column,)), ("updates", ())})
        assert {(loss.what, loss.fields) for loss in losses} <= expected, part
        assert bool(losses) != (table == "segments"), part
        check_lost(whole, out, losses)
        assert rerecorded(out, life(seed=0, num_steps=20), life(seed=1, num_steps=20), way=way) == source.digest
        assert only_shard(source.path).read_bytes() == data


PARTS = (
    "header", "learners", "steps/observation", "steps/reward", "steps/truncated", "segments/offset", "segments/learner",
    "episodes/seed", "episodes/learner", "final_observations/observation", "final_observations/step", "updates/step",
    "updates/values/train/loss",
)  # fmt: skip
NOTHING_OF_IT = {("shard", ()), ("steps", ()), ("updates", ())}
EXPECTED = {
    "header": NOTHING_OF_IT,
    "learners": NOTHING_OF_IT,
    "segments": set(),  # the learners' digests prove where the steps lie
    "episodes": {("seeds", ())},
    "final_observations": {("steps", ("final_observations",)), ("updates", ())},
    "updates": {("updates", ())},
}


def small_copy(source: Path, path: Path) -> Path:
    """Copy what one needs of a store, the index too."""
    for file in source.rglob("*"):
        if file.is_file():
            place = path / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read_bytes())
    return path


@pytest.mark.parametrize("way", FORMATS)
def test_of_a_long_history_what_comes_before_the_damage_shows(tmp_path: Path, way: str) -> None:
    lived = life(num_steps=70_000, num_streams=1, end_rate=0.01)
    with hs.StoreWriter(create(tmp_path / "store"), **WAYS[way]) as writer:
        record(writer, lived, seals=(10, 40))
    whole = histories(tmp_path / "store")
    shard = max((tmp_path / "store" / "shards").iterdir(), key=lambda path: path.stat().st_size)
    flip_in(shard, "steps/reward", share=0.97)
    loss, updates = recovered(tmp_path / "store", tmp_path / "out")
    assert (updates.what, updates.rows) == ("updates", (loss.rows[0] // 20, 3500))
    assert (loss.what, loss.file, loss.stream, loss.fields) == ("steps", f"shards/{shard.name}", 0, ("reward",))
    assert 65_000 < loss.rows[0] < 66_000 < loss.rows[1] == 70_000
    assert str(loss).endswith(f"stream 0: steps {loss.rows[0]} to 70000 are lost: reward cannot be read there.")
    check_lost(whole, tmp_path / "out", [loss])
    (learner,) = hs.open(tmp_path / "out").learners
    assert (learner.status, learner.row.num_steps) == ("partial", (loss.rows[0],))


@pytest.mark.parametrize("way", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_cut_shard_takes_nothing_else_with_it(tmp_path: Path, way: str, share: float) -> None:
    path, lives = tmp_path / "store", [life(seed=seed) for seed in range(3)]
    with hs.StoreWriter(create(path), **WAYS[way]) as writer:
        record(writer, lives[0], seals=(20, 40))
        writer.seal()
        record(writer, lives[1])
    with hs.StoreWriter(hs.open(path, mode="a"), **WAYS[way]) as writer:
        record(writer, lives[2])
    whole, digest = histories(path), hs.open(path).digest
    shards = sorted((path / "shards").iterdir())
    for number, shard in enumerate(shards):
        folder = small_copy(path, tmp_path / f"store{number}")
        (folder / "shards" / shard.name).write_bytes(shard.read_bytes()[: int(share * shard.stat().st_size)])
        losses = recovered(folder, tmp_path / f"out{number}")
        assert {loss.what for loss in losses} <= {"shard", "steps", "updates"}
        check_lost(whole, tmp_path / f"out{number}", losses)
        assert rerecorded(tmp_path / f"out{number}", *lives, way=way) == digest


def test_a_shard_in_the_middle_that_is_gone_leaves_what_came_before_it(tmp_path: Path) -> None:
    lived = life(end_rate=0.0)
    with hs.StoreWriter(create(tmp_path / "store")) as writer:
        record(writer, lived, seals=(20, 40))
    store = hs.open(tmp_path / "store")
    whole, digest = histories(store.path), store.digest
    middle = store.shard_names[store.histories.piece_shard[1]]
    (store.path / "shards" / middle).unlink()
    losses = recovered(store.path, tmp_path / "out")
    assert [(loss.stream, loss.rows, loss.fields) for loss in losses if loss.what == "steps"] == [
        (stream, (20, 60), ()) for stream in range(3)
    ]
    check_lost(whole, tmp_path / "out", losses)
    assert rerecorded(tmp_path / "out", lived) == digest


@pytest.mark.parametrize("table", ["steps/reward", "episodes/seed", "final_observations/step"])
def test_an_attempt_that_continues_a_damaged_one_keeps_what_joins(tmp_path: Path, table: str) -> None:
    path, lived = tmp_path / "store", life(num_streams=2)
    with hs.StoreWriter(create(path)) as writer:
        first = writer.begin(lived.spec)
        lived.add(first, 0, 40)
    with hs.StoreWriter(hs.open(path, mode="a")) as writer:
        second = writer.begin(lived.spec, continues=Continuation(attempt=first.attempt, step=25))
        lived.add(second, 25, 60)
        second.finish()
    whole = histories(path)
    for number, shard in enumerate(sorted((path / "shards").iterdir())):
        folder = small_copy(path, tmp_path / f"store{number}")
        flip_in(folder / "shards" / shard.name, table)
        losses = recovered(folder, tmp_path / f"out{number}")
        assert losses
        found = histories(tmp_path / f"out{number}")
        for key, columns in found.items():
            assert np.array_equal(columns["reward"], whole[key]["reward"][: len(columns["reward"])])


def compacted(path: Path, *, way: str) -> tuple[str, list[str]]:
    """Add a shard that replaces the others of a store, and return its name and theirs."""
    for seed in range(2):
        with hs.StoreWriter(create(path), **WAYS[way]) as writer:
            record(writer, life(seed=seed))
    store = hs.open(path, mode="a")
    names = list(store.shard_names)
    wrecks = [open_wreck(path / "shards" / name, name, store.document) for name in names]
    parts = [read_tables(wreck.reader) for wreck in wrecks]
    rows = {
        table: [{**getattr(part, table), "learner": np.full(len(getattr(part, table)["learner"]), number)}
                for number, part in enumerate(parts)]
        for table in TABLES
    }  # fmt: skip
    rows["segments"][1]["offset"] = rows["segments"][1]["offset"] + parts[0].header.num_steps
    tables = {table: {k: np.concatenate([one[k] for one in all_]) for k in all_[0]} for table, all_ in rows.items()}
    shapes = {name: TableShape(num_rows=len(table["learner"]), columns=tuple(table)) for name, table in tables.items()}
    header = parts[0].header.model_copy(
        update={"replaces": tuple(names), "num_steps": 2 * parts[0].header.num_steps, "tables": shapes}
    )
    steps = {name: np.concatenate([part.steps[name] for part in parts]) for name in parts[0].steps}
    learners = tuple(part.learners[0] for part in parts)
    both = ShardTables(header=header, learners=learners, steps=steps, **tables)
    name = put_shard(store, both, shard_format=shard_format(WAYS[way]["format"]))
    store.close()
    return name, names


@pytest.mark.parametrize("way", FORMATS)
def test_a_compaction_that_was_broken_off_is_no_loss_whichever_side_is_damaged(tmp_path: Path, way: str) -> None:
    path = tmp_path / "store"
    name, names = compacted(path, way=way)
    digest = hs.open(path).digest
    assert recovered(path, tmp_path / "both") == []
    assert hs.open(tmp_path / "both").digest == digest
    for number, hit in enumerate([name, names[0]]):
        folder = small_copy(path, tmp_path / f"store{number}")
        flip_in(folder / "shards" / hit, "steps/reward")
        assert recovered(folder, tmp_path / f"flipped{number}") == []
        (folder / "shards" / hit).write_bytes(b"")
        losses = recovered(folder, tmp_path / f"cut{number}")
        assert [loss.what for loss in losses] == (["shard"] if hit == name else [])
        for out in (f"flipped{number}", f"cut{number}"):
            assert hs.open(tmp_path / out).digest == digest
    for old in names:
        (path / "shards" / old).unlink()
    flip_in(path / "shards" / name, "steps/reward", share=0.9)
    assert {loss.what for loss in recovered(path, tmp_path / "lost")} <= {"steps", "updates"}


def test_a_damaged_checkpoint_is_said_and_its_learner_is_partial(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with hs.StoreWriter(create(path)) as writer:
        name = checkpoint(path)
        record(writer, life(), finish=None).finish(checkpoint=name)
    (path / "checkpoints" / name / "policy.safetensors").write_bytes(b"")
    (loss,) = recovered(path, tmp_path / "out")
    assert (loss.what, loss.file) == ("checkpoint", f"checkpoints/{name}")
    (learner,) = hs.open(tmp_path / "out").learners
    assert (learner.status, learner.digest) == ("partial", hs.open(path).learners[0].digest)


def test_a_learner_whose_data_are_not_what_its_digest_says_is_told_and_partial(tmp_path: Path) -> None:
    store = small_store(tmp_path / "store", num_learners=1)
    (learner,) = store.status_of()
    shard = only_shard(store.path)
    tables = read_tables(open_shard(shard))
    tables.steps["reward"][3] += 1
    put_shard(hs.open(store.path, mode="a"), tables, shard_format=shard_format())
    shard.unlink()
    (loss,) = recovered(store.path, tmp_path / "out")
    assert (loss.what, loss.learner) == ("digest", learner)
    assert set(hs.open(tmp_path / "out").status_of().values()) == {"partial"}


def test_a_damaged_store_json_is_made_anew_from_the_shards(tmp_path: Path) -> None:
    store = small_store(tmp_path / "store")
    document = (store.path / "store.json").read_bytes()
    (store.path / "store.json").write_bytes(document[:-10])
    (loss,) = recovered(store.path, tmp_path / "out")
    assert loss.what == "document"
    assert (tmp_path / "out" / "store.json").read_bytes() == document


def test_where_nothing_says_what_the_store_is_nothing_is_made(tmp_path: Path) -> None:
    store = small_store(tmp_path / "store")
    (store.path / "store.json").write_bytes(b"")
    only_shard(store.path).write_bytes(b"")
    with pytest.raises(DamagedData, match="no shard says what it is"):
        list(recover(store.path, tmp_path / "out"))
    assert not (tmp_path / "out" / "store.json").exists()


def test_a_place_that_is_taken_or_no_store_is_refused(tmp_path: Path) -> None:
    store = small_store(tmp_path / "store")
    write_card(store)
    with pytest.raises(NotAStore, match="there is a store already"):
        list(recover(store.path, store.path))
    with pytest.raises(NotAStore, match="lies in the damaged store"):
        list(recover(store.path, store.path / "saved"))
    with pytest.raises(StoreNotFound):
        list(recover(tmp_path / "nothing", tmp_path / "out"))
    with pytest.raises(NotAStore, match="is no store"):
        list(recover(tmp_path, tmp_path / "out"))


def test_a_recovery_that_was_broken_off_begins_anew(tmp_path: Path) -> None:
    store = small_store(tmp_path / "store")
    list(itertools.islice(recover(store.path, tmp_path / "out"), 4))
    (tmp_path / "out" / "shards" / f"{'0' * 64}.h5").write_bytes(b"half")
    assert not (tmp_path / "out" / "store.json").exists()
    assert recovered(store.path, tmp_path / "out") == []
    assert len(list((tmp_path / "out" / "shards").iterdir())) == 1


@pytest.mark.parametrize("way", FORMATS)
@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_to_a_shard_the_report_is_exact(tmp_path: Path, way: str, seed: int) -> None:
    rng, lives, path = random.Random(seed), [life(seed=n, num_steps=50) for n in range(3)], tmp_path / "store"
    with hs.StoreWriter(create(path), **WAYS[way]) as writer:
        for lived in lives:
            record(writer, lived, seals=sorted(rng.sample(range(1, 50), 2)))
    whole, digest = histories(path), hs.open(path).digest
    for shard in rng.sample(sorted((path / "shards").iterdir()), 2):
        shard.write_bytes(MUTATIONS[rng.choice(sorted(MUTATIONS))](shard.read_bytes(), rng))
    losses = recovered(path, tmp_path / "out")
    check_lost(whole, tmp_path / "out", losses)
    assert rerecorded(tmp_path / "out", *lives, way=way) == digest
