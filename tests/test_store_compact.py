"""Compacting: the same store in fewer files, whenever it is stopped."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from eventful_stores import (
    CONTINUED,
    RETRIED,
    SHORT,
    UNFINISHED,
    eventful_store,
    everything,
    many_seals,
    problems_of,
    shards_of,
)
from store_samples import create, life, record

import historystore as hs
from historystore.card import write_card
from historystore.compact import compact, iter_compacted
from historystore.documents import Continuation
from historystore.shards import open_shard


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eventful_store(tmp_path_factory.mktemp("eventful") / "store").path


@pytest.fixture
def path(eventful: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(eventful, tmp_path / "store"))


def attempts_in(path: Path) -> dict[int, dict[str, int]]:
    """Return the steps of each attempt at each learner, by its seed."""
    found: dict[int, dict[str, int]] = {}
    for name in shards_of(path):
        reader = open_shard(path / "shards" / name)
        for i, row in enumerate(reader.learners):
            steps = int(reader.segments["length"][reader.segments["learner"] == i].sum())
            attempts = found.setdefault(row.spec.seed, {})
            attempts[row.attempt] = attempts.get(row.attempt, 0) + steps
    return found


def test_the_eventful_store_is_sound(eventful: Path) -> None:
    assert problems_of(eventful) == []
    assert len(shards_of(eventful)) > 20
    assert sorted(hs.open(eventful).status_of().values()) == ["complete"] * 5 + ["failed", "partial", "partial"]


@pytest.mark.parametrize("target_bytes", [1, 1000, 5000, 1 << 26])
def test_compacting_keeps_everything_visible_to_the_last_bit(path: Path, target_bytes: int) -> None:
    before, digest = everything(hs.open(path)), hs.open(path).digest
    store = compact(path, target_bytes=target_bytes)
    assert everything(store) == before
    assert store.digest == digest
    assert problems_of(path) == []


def test_small_shards_become_one_for_each_set_of_fields(path: Path) -> None:
    compact(path)
    assert len(shards_of(path)) == 2


def test_what_a_complete_attempt_superseded_goes_and_what_is_not_complete_stays(path: Path) -> None:
    before = attempts_in(path)
    compact(path)
    after = attempts_in(path)
    assert len(before[RETRIED]) == 2
    assert list(after[RETRIED].values()) == [180]
    assert sorted(before[CONTINUED].values()) == [35 * 3, 45 * 3]
    assert sorted(after[CONTINUED].values()) == [25 * 3, 35 * 3]
    assert after[SHORT] == before[SHORT]
    assert after[UNFINISHED] == before[UNFINISHED]


def test_compacting_again_changes_nothing(path: Path) -> None:
    for target_bytes in (5000, 1 << 26):
        compact(path, target_bytes=target_bytes)
        before = {name: (path / "shards" / name).stat().st_mtime_ns for name in shards_of(path)}
        assert list(iter_compacted(path, target_bytes=target_bytes)) == []
        assert {name: (path / "shards" / name).stat().st_mtime_ns for name in shards_of(path)} == before


def test_no_new_shard_is_larger_than_the_target(path: Path) -> None:
    compact(path, target_bytes=6000)
    for name in shards_of(path):
        header = open_shard(path / "shards" / name).header
        step_bytes = sum(np.dtype(f.stored_dtype).itemsize * int(np.prod(f.shape)) for f in header.fields)
        assert header.num_steps * step_bytes <= 6000 or not header.replaces
    assert len(shards_of(path)) > 2


def test_a_history_over_many_seals_lies_in_one_piece(tmp_path: Path) -> None:
    many_seals(tmp_path / "store")
    store = compact(tmp_path / "store")
    assert np.array_equal(store.histories.piece_start, np.arange(store.num_histories + 1))


def test_the_card_and_the_index_are_made_anew(path: Path) -> None:
    write_card(hs.open(path))
    compact(path)
    assert problems_of(path) == []
    (index,) = [file.read_bytes() for file in path.glob("index.arrow")]
    hs.open(path).status_of()
    assert (path / "index.arrow").read_bytes() == index
    assert "| shards | 2," in (path / "README.md").read_text()


def test_a_shard_of_which_nothing_stays_goes_with_another(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with hs.StoreWriter(create(path)) as writer:
        record(writer, life(seed=1), finish=None)
    with hs.StoreWriter(hs.open(path, mode="a")) as writer:
        record(writer, life(seed=1))
    digest = hs.open(path).digest
    store = compact(path, target_bytes=1)
    assert (store.digest, len(shards_of(path)), problems_of(path)) == (digest, 1, [])


def test_an_empty_store_stays_one(tmp_path: Path) -> None:
    create(tmp_path / "store")
    assert compact(tmp_path / "store").learners == ()


def test_a_recorder_goes_on_while_its_store_is_compacted(tmp_path: Path) -> None:
    path, lived = tmp_path / "store", life(num_steps=80)
    with hs.StoreWriter(create(path)) as writer:
        learner = writer.begin(lived.spec)
        for start in range(0, 80, 10):
            lived.add(learner, start, start + 10)
            writer.seal()
            compact(path)
        learner.finish()
    store = hs.open(path)
    assert list(store.status_of().values()) == ["complete"]
    assert np.array_equal(store.histories.num_steps, [80, 80, 80])
    assert problems_of(path) == []


class Killed(BaseException):
    """What ends a process without leaving it a chance."""


class Deadline:
    """Lets a number of changes to names of files happen, and nothing after them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, num_changes: int) -> None:
        self.left = num_changes
        for name in ("rename", "unlink"):
            monkeypatch.setattr(Path, name, self._limited(getattr(Path, name)))

    def _limited(self, change):
        def limited(path: Path, *args: object, **options: object) -> object:
            if self.left <= 0:
                raise Killed
            self.left -= 1
            return change(path, *args, **options)

        return limited


def random_store(path: Path, rng: random.Random) -> hs.Store:
    """Try a few learners again and again, anew or from where an earlier attempt stood, finishing or not."""
    create(path)
    for _ in range(8):
        lived = life(seed=rng.randrange(3), num_streams=2, num_steps=40)
        with hs.StoreWriter(hs.open(path, mode="a")) as writer:
            known = {one.id: one for one in hs.open(path).learners}.get(lived.spec.id)
            reached = min((len(history) for history in known.histories), default=0) if known else 0
            step = rng.randrange(reached) if reached and known and rng.random() < 0.6 else 0
            continues = Continuation(attempt=known.row.attempt, step=step) if step and known else None
            learner = writer.begin(lived.spec, continues=continues)
            stop = rng.choice([40, rng.randrange(step, 40) + 1])
            for start, end in itertools.pairwise(sorted({step, stop, *rng.sample(range(step, stop + 1), 1)})):
                lived.add(learner, start, end)
                learner.add_update(step=end, values={"loss": rng.random()}, learning_rate=0.1, wall_time_s=0.5)
                writer.seal()
            if stop == 40 and rng.random() < 0.7:
                learner.finish()
    return hs.open(path)


@pytest.mark.slow
def test_stopped_at_any_moment_it_is_the_same_sound_store_and_the_next_run_finishes(tmp_path: Path) -> None:
    store = random_store(tmp_path / "store", random.Random(3))
    truth, digest = everything(store), store.digest
    num_changes, was_stopped = 0, True
    while was_stopped:
        path = Path(shutil.copytree(store.path, tmp_path / f"stopped-{num_changes}"))
        with pytest.MonkeyPatch.context() as patch:
            Deadline(patch, num_changes=num_changes)
            try:
                compact(path, target_bytes=700)
                was_stopped = False
            except Killed:
                pass
        assert problems_of(path) == [], num_changes  # before anyone opens it, which makes the index anew
        assert everything(hs.open(path)) == truth, num_changes
        assert compact(path, target_bytes=700).digest == digest, num_changes
        replaced = {name for each in shards_of(path) for name in open_shard(path / "shards" / each).header.replaces}
        assert not replaced & shards_of(path), num_changes
        num_changes += 1
    assert num_changes > 15


@pytest.mark.parametrize("seed", range(12))
def test_whatever_was_tried_and_wherever_it_is_stopped_the_same_shows(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    store = random_store(tmp_path / "store", rng)
    truth, digest = everything(store), store.digest
    for _ in range(3):
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            Deadline(patch, num_changes=rng.randrange(12))
            compact(store.path, target_bytes=rng.choice([300, 1000, 1 << 20]))
        assert problems_of(store.path) == []  # before anyone opens it, which makes the index anew
        stopped = hs.open(store.path)
        assert (stopped.digest, everything(stopped)) == (digest, truth)
    finished = compact(store.path)
    assert (finished.digest, everything(finished), problems_of(store.path)) == (digest, truth, [])
    kept = {row.attempt for name in shards_of(store.path) for row in open_shard(store.path / "shards" / name).learners}
    shown = {one.row.attempt for one in finished.learners if one.status == "complete"}
    assert shown <= kept


def test_a_replaced_shard_goes_before_the_one_that_replaced_it(eventful: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(eventful, tmp_path / "store"))
    digest = hs.open(path).digest
    old = {name: (path / "shards" / name).read_bytes() for name in shards_of(path)}
    compact(path, target_bytes=4000)
    middle = {name: (path / "shards" / name).read_bytes() for name in shards_of(path)}
    compact(path)
    final = shards_of(path)
    for name, data in (old | middle).items():
        (path / "shards" / name).write_bytes(data)
    num_replaced = len(shards_of(path) - final)
    assert num_replaced > 25
    for num_left in range(num_replaced, 0, -1):
        with pytest.MonkeyPatch.context() as patch:
            Deadline(patch, num_changes=1)
            with pytest.raises(Killed):
                compact(path)
        assert (hs.open(path).digest, len(shards_of(path) - final)) == (digest, num_left - 1)
    compact(path)
    assert (hs.open(path).digest, shards_of(path), problems_of(path)) == (digest, final, [])


COMPACTOR = """
    import sys
    from pathlib import Path
    from historystore.compact import iter_compacted

    print("begins", flush=True)
    for progress in iter_compacted(Path({path!r}), target_bytes=4000):
        pass
"""


def test_a_killed_process_leaves_the_same_sound_store(eventful: Path, tmp_path: Path) -> None:
    rng, digest = np.random.default_rng(0), hs.open(eventful).digest
    num_killed = 0
    for trial in range(6):
        path = Path(shutil.copytree(eventful, tmp_path / f"store-{trial}"))
        script = textwrap.dedent(COMPACTOR).format(path=str(path))
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(float(rng.uniform(0.02, 0.3)))
            process.send_signal(signal.SIGKILL)
        num_killed += process.returncode == -signal.SIGKILL
        assert hs.open(path).digest == digest
        assert problems_of(path) == []
        compact(path, target_bytes=4000)
        assert hs.open(path).digest == digest
        assert not list((path / "shards").glob(".*"))
    assert num_killed


def test_a_folder_listed_behind_its_back_is_listed_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, listing, listdir = hs.open(path).digest, [], os.listdir

    def compacted_meanwhile(folder: str | Path = ".") -> list[str]:
        if Path(folder).name != "shards" or listing:
            return listdir(folder)
        listing.append(folder)
        before = set(listdir(folder))
        compact(path)
        return sorted(before & set(listdir(folder)))

    monkeypatch.setattr(os, "listdir", compacted_meanwhile)
    assert hs.open(path).digest == digest
    assert listing
