"""Stores on a real S3 server: torn uploads, a server that goes away, several recorders, readers meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from s3_server import S3Server, objects, put_object
from store_samples import checkpoint, create, life, record, small_store

import historystore as hs
from historystore.checkpoints import read_checkpoint
from historystore.errors import DamagedData, SpaceMismatch, StoreNotFound, Unreachable, WriteFailed
from historystore.replay import learner_digest
from historystore.verify import verify

TORN = r"/shards/[0-9a-f]{64}\.h5: does not hold what was written to it: the SHA-256 of its bytes is not its name"


def problems(url: str) -> list[str]:
    return [str(problem) for problem in verify(url) if not problem.is_note]


def shards(url: str) -> dict[str, bytes]:
    return {name: data for name, data in objects(url).items() if name.startswith("shards/")}


def on_another_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this one has fetched."""
    monkeypatch.setenv("HISTORYSTORE_CACHE", str(folder / "another" / os.urandom(4).hex()))


def test_a_remote_store_is_the_store_that_a_folder_would_be(s3: S3Server, tmp_path: Path) -> None:
    url = f"{s3.new_bucket()}/some/prefix"
    remote, local = small_store(url), small_store(tmp_path / "local")
    assert remote.digest == local.digest
    assert remote.num_steps == local.num_steps
    assert remote.num_bytes == sum(map(len, shards(url).values()))
    for ours, theirs in zip(remote.learners, local.learners, strict=True):
        assert ours.updates().equals(theirs.updates())
        for here, there in zip(ours.histories, theirs.histories, strict=True):
            assert all(np.array_equal(array, there.read()[name]) for name, array in here.read().items())
    name = checkpoint(url)
    assert name == checkpoint(tmp_path / "local")
    assert read_checkpoint(url, name) == read_checkpoint(tmp_path / "local", name)
    assert problems(url) == []
    (shard,) = shards(url)
    assert hs.open(f"{url}/{shard}").num_steps == local.num_steps
    assert list(verify(f"{url}/{shard}")) == []


def test_reading_writes_nothing_to_the_server(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{s3.new_bucket()}/store"
    small_store(url)
    before = objects(url)
    for _ in range(2):
        assert hs.open(url).num_steps
        assert problems(url) == []
        assert objects(url) == before
        on_another_machine(tmp_path, monkeypatch)
    assert hs.open(url, mode="a").num_steps
    assert objects(url).keys() - before.keys() == {"index.arrow"}


def test_with_a_fresh_index_on_the_server_no_shard_is_fetched(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{s3.new_bucket()}/store"
    with hs.StoreWriter(create(url)) as writer:
        record(writer, life())
    expected = hs.open(url, mode="a").digest
    on_another_machine(tmp_path, monkeypatch)
    (name,) = shards(url)
    put_object(f"{url}/{name}", bytes(len(shards(url)[name])))
    assert hs.open(url).digest == expected
    with pytest.raises(DamagedData, match=TORN):
        hs.open(url).learners[0].histories[0].read(0, 1)


def test_a_torn_upload_is_found_and_never_read_as_data(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{s3.new_bucket()}/store"
    small_store(url)
    ((name, whole),) = shards(url).items()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        put_object(f"{url}/{name}", whole[:length])
        on_another_machine(tmp_path, monkeypatch)
        for place in (url, f"{url}/{name}"):
            with pytest.raises(DamagedData, match=TORN):
                assert hs.open(place).num_steps
            assert f"{name}: is not named by its SHA-256: it does not hold" in "\n".join(problems(url))
    put_object(f"{url}/{name}", whole)
    assert hs.open(url).num_steps
    assert problems(url) == []


@pytest.mark.slow
def test_nothing_sealed_is_lost_while_the_server_is_down_and_the_next_writer_uploads_it(
    s3: S3Server, tmp_path: Path, remote_folders: Path
) -> None:
    url = f"{s3.new_bucket()}/store"
    writer = hs.StoreWriter(create(url))
    record(writer, life(seed=0))
    writer.seal()
    s3.stop()
    try:
        record(writer, life(seed=1))
        with pytest.warns(UserWarning, match=r"store: 1 file cannot be uploaded, .*Nothing is lost, they wait in "):
            (late,) = writer.seal()
        (waiting,) = remote_folders.glob("spool/*/shards/*.h5")
        assert waiting.name == late
        record(writer, life(seed=2))
        with (
            pytest.warns(UserWarning, match="store: 2 files cannot be uploaded"),
            pytest.raises(WriteFailed, match=f"{url}: 2 files cannot be uploaded, could not .* wait in /.*again"),
        ):
            writer.close()
        with pytest.raises(Unreachable, match=f"{url}: cannot be read, could not connect .* Check the address"):
            hs.open(url)
    finally:
        s3.start()
    assert len(hs.open(url).learners) == 1
    with hs.StoreWriter(hs.open(url, mode="a")):
        pass
    assert not list(remote_folders.glob("spool/*/shards/*.h5"))
    assert hs.open(url).digest == small_store(tmp_path / "whole", num_learners=3).digest
    assert problems(url) == []


def test_a_server_that_comes_back_gets_what_waited_with_the_next_seal(s3: S3Server) -> None:
    url = f"{s3.new_bucket()}/store"
    with hs.StoreWriter(create(url)) as writer:
        s3.stop()
        try:
            record(writer, life(seed=0))
            with pytest.warns(UserWarning, match="1 file cannot be uploaded"):
                writer.seal()
        finally:
            s3.start()
        assert not shards(url)
        record(writer, life(seed=1))
        writer.seal()
        assert len(shards(url)) == 2


RECORDER = """
    import sys
    sys.path.insert(0, {tests!r})
    from store_samples import create, life, record
    import historystore as hs

    sys.stdin.readline()
    with hs.StoreWriter(create({url!r})) as writer:
        for seed in range(int(sys.argv[1]), 6, 2):
            record(writer, life(seed=seed))
            writer.seal()
"""


def test_two_recorders_fill_one_store_while_a_reader_reads(s3: S3Server, tmp_path: Path) -> None:
    url = f"{s3.new_bucket()}/store"
    script = textwrap.dedent(RECORDER).format(tests=str(Path(__file__).parent), url=url)
    command = [sys.executable, "-c", script]
    recorders = [subprocess.Popen([*command, str(seed)], stdin=subprocess.PIPE) for seed in range(2)]
    for process in recorders:
        process.stdin.write(b"\n")
        process.stdin.flush()
    seen = 0
    while any(process.poll() is None for process in recorders):
        if objects(url):
            store = hs.open(url)
            assert len(store.learners) >= seen
            seen = len(store.learners)
            assert all(learner_digest(learner) == learner.digest for learner in store.learners)
    assert [process.wait() for process in recorders] == [0, 0]
    store = hs.open(url)
    assert store.digest == small_store(tmp_path / "local", num_learners=6).digest
    assert all(store.shard(i).header.store == store.document for i in range(len(store.shard_names)))
    assert problems(url) == []


def test_a_store_is_created_once_and_whoever_comes_later_uses_what_is_there(s3: S3Server) -> None:
    url = f"{s3.new_bucket()}/store"
    first = create(url)
    assert create(url).document == first.document
    with pytest.raises(SpaceMismatch, match=f"{url}: holds other family"):
        hs.create(url, family="another", observation_space=first.observation_space, action_space=first.action_space)
    assert not first.place.create("store.json", b"another")
    assert first.place.read("store.json") != b"another"


def test_what_is_not_there_or_not_allowed_is_one_line(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3.new_bucket()
    for url in (f"{bucket}/nothing", f"{bucket}-else/store"):
        with pytest.raises(StoreNotFound, match=f"{url}: there is no store here"):
            hs.open(url)
        with pytest.raises(StoreNotFound, match=f"{url}: there is nothing"):
            list(verify(url))
    with pytest.raises(WriteFailed, match=f"{bucket}-else/store/store.json: cannot be written, .*does not exist"):
        create(f"{bucket}-else/store")
    put_object(f"{bucket}/mine/notes.txt", b"mine")
    with pytest.raises(hs.HistoryError, match=f"{bucket}/mine: is a folder with other things in it"):
        create(f"{bucket}/mine")


def test_verify_reads_the_server_and_not_the_cache(s3: S3Server, remote_folders: Path) -> None:
    url = f"{s3.new_bucket()}/store"
    small_store(url)
    ((name, whole),) = shards(url).items()
    (copy,) = (remote_folders / "cache").glob("*.h5")
    assert copy.read_bytes() == whole
    put_object(f"{url}/{name}", whole[:-1] + bytes([whole[-1] ^ 1]))
    assert f"{name}: is not named by its SHA-256" in problems(url)[0]
    put_object(f"{url}/{name}", whole)
    copy.write_bytes(b"damaged")
    put_object(f"{url}/notes.txt", b"mine")
    put_object(f"{url}/deep/er/notes.txt", b"mine")
    notes = [str(problem) for problem in verify(url)]
    assert notes == ["deep: is no part of the store.", "notes.txt: is no part of the store."]
    assert [file.name for file in (remote_folders / "cache").iterdir() if file.is_dir()] == []


def test_a_spool_that_another_machine_emptied_is_no_obstacle(s3: S3Server, remote_folders: Path) -> None:
    url = f"{s3.new_bucket()}/store"
    with hs.StoreWriter(create(url)) as writer:
        record(writer, life())
        shutil.rmtree(remote_folders / "spool")
    assert len(hs.open(url).learners) == 1
