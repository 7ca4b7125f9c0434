from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from store_samples import create, life, record, small_store

import historystore as hs
from historystore.files import create_file, is_process_gone, make_folder, replace_file, sweep
from historystore.replay import learner_digest

WRITER = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from store_samples import create, life
    import historystore as hs

    lived = life(seed={seed}, num_steps=4000)
    writer = hs.StoreWriter(create(Path({path!r})), format={way!r})
    learner = writer.begin(lived.spec)
    for start in range(0, 4000, 40):
        lived.add(learner, start, start + 40)
        writer.seal()
        print(start + 40, flush=True)
"""


def writing(path: Path, *, seed: int, way: str) -> subprocess.Popen[str]:
    """Start a writer that seals every 40 steps, and says so."""
    script = textwrap.dedent(WRITER).format(tests=str(Path(__file__).parent), path=str(path), seed=seed, way=way)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("way", ["hdf5", "arrow"])
def test_what_a_reader_finds_beside_a_writer_was_lived_and_is_no_less_than_acknowledged(
    tmp_path: Path, way: str
) -> None:
    path, lived = tmp_path / "s", life(num_steps=4000)
    with writing(path, seed=0, way=way) as process:
        assert process.stdout is not None
        for _ in range(12):
            acknowledged = int(process.stdout.readline())
            store = hs.open(path)
            for history in store.learners[0].histories:
                assert history.num_steps >= acknowledged
                rewards = history.read(fields=["reward"])["reward"]
                assert np.array_equal(rewards, lived.steps["reward"][: history.num_steps, history.stream])
            store.close()
        process.kill()


@pytest.mark.parametrize("way", ["hdf5", "arrow"])
def test_a_writer_killed_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path, way: str) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "s"
    for seed in range(4):
        with writing(path, seed=seed, way=way) as process:
            assert process.stdout is not None
            acknowledged = int(process.stdout.readline())
            time.sleep(float(rng.uniform(0.0, 0.15)))
            process.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, process.stdout.read().split())])
        store = hs.open(path)
        learner = next(each for each in store.learners if each.spec.seed == seed)
        assert learner.status == "partial"
        assert learner_digest(learner) == learner.digest
        lived = life(seed=seed, num_steps=4000)
        for history in learner.histories:
            assert history.num_steps >= acknowledged
            expected = lived.steps["observation"][: history.num_steps, history.stream]
            assert np.array_equal(history.read()["observation"], expected)
    with hs.StoreWriter(create(path)) as writer:
        assert not [file for file in (path / "shards").iterdir() if file.suffix == ".tmp"]
        for seed in range(4):
            record(writer, life(seed=seed, num_steps=4000))
    again = hs.open(path)
    assert set(again.status_of().values()) == {"complete"}
    assert again.digest == small_store(tmp_path / "t", num_learners=4, num_steps=4000).digest


def test_a_writer_sweeps_what_dead_processes_left_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "s" / "shards"
    create(tmp_path / "s")
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    host = os.uname().nodename
    dead, own = f".{host}-{process.pid}-{'0' * 16}.tmp", f".{host}-{os.getpid()}-{'1' * 16}.tmp"
    living, elsewhere = f".{host}-{os.getppid()}-{'2' * 16}.tmp", f".elsewhere-{process.pid}-{'3' * 16}.tmp"
    for name in (dead, own, living, elsewhere, "notes.txt"):
        (folder / name).touch()
    hs.StoreWriter(hs.open(tmp_path / "s", mode="a"))
    assert sorted(file.name for file in folder.iterdir()) == sorted([living, elsewhere, "notes.txt"])
    assert sweep(folder) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells of processes that nobody waits for")
def test_a_killed_process_that_its_parent_does_not_wait_for_is_dead(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    host = os.uname().nodename
    assert not is_process_gone(host, process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert is_process_gone(host, process.pid)
    finally:
        process.communicate()


def test_a_file_is_created_by_one_only_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert create_file(path, b"one")
    assert not create_file(path, b"two")
    assert path.read_bytes() == b"one"
    replace_file(path, b"three")
    assert path.read_bytes() == b"three"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_new_folder_and_those_above_it_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), fsync(fd)))
    make_folder(tmp_path / "a" / "b")
    assert set(synced) == {tmp_path.stat().st_ino, (tmp_path / "a").stat().st_ino}
    make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2


CREATOR = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from store_samples import create, life, record
    import historystore as hs

    sys.stdin.readline()
    with hs.StoreWriter(create(Path({path!r}))) as writer:
        record(writer, life(seed=int(sys.argv[1])))
"""


def test_many_processes_create_and_fill_one_store_at_once(tmp_path: Path) -> None:
    script = textwrap.dedent(CREATOR).format(tests=str(Path(__file__).parent), path=str(tmp_path / "s"))
    command = [sys.executable, "-c", script]
    crowd = [subprocess.Popen([*command, str(seed)], stdin=subprocess.PIPE) for seed in range(4)]
    for process in crowd:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert [process.wait() for process in crowd] == [0] * 4
    store = hs.open(tmp_path / "s")
    assert len(store.learners) == len(store.shard_names) == 4
    assert store.digest == small_store(tmp_path / "t", num_learners=4).digest
    assert all(store.shard(i).header.store == store.document for i in range(4))
