"""Shards fetched from a remote store: kept, let go, damaged, shared by processes."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from s3_server import S3Server, put_object
from store_samples import create, life, record

import historystore as hs
from historystore.errors import DamagedData, InvalidValue
from historystore.remote import cache
from historystore.shards.protocol import is_shard_name


def many_shards(url: str, *, num_shards: int = 4, shard_format: str = "hdf5") -> hs.Store:
    with hs.StoreWriter(create(url), format=shard_format) as writer:
        for seed in range(num_shards):
            record(writer, life(seed=seed))
            writer.seal()
    return hs.open(url)


def copies(remote_folders: Path) -> list[Path]:
    return sorted(path for path in (remote_folders / "cache").iterdir() if is_shard_name(path.name))


def all_steps(store: hs.Store) -> list[np.ndarray]:
    return [history.read()["observation"] for learner in store.learners for history in learner.histories]


def test_the_cache_stays_within_its_size_and_everything_can_be_read_again(
    remote_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = many_shards("memory://bounded")
    expected = all_steps(store)
    size = max(path.stat().st_size for path in copies(remote_folders))
    monkeypatch.setenv("HISTORYSTORE_CACHE_GB", str(2.5 * size / 1e9))
    fresh = hs.open("memory://bounded")
    for _ in range(2):
        assert all(map(np.array_equal, all_steps(fresh), expected))
        fresh.close()
        fresh.shard(0).header  # noqa: B018
    (remote_folders / "cache" / copies(remote_folders)[0].name).unlink()
    assert all(map(np.array_equal, all_steps(hs.open("memory://bounded")), expected))
    assert len(copies(remote_folders)) <= 2


def test_the_shard_that_was_opened_least_recently_goes_first(
    remote_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = many_shards("memory://order", num_shards=3)
    old, middle, new = (store.shard(i).path for i in range(3))
    for age, path in enumerate((new, middle, old)):
        os.utime(path, (1000 + age, 1000 + age))
    assert store.shard(2).path == new
    middle.unlink()
    monkeypatch.setenv("HISTORYSTORE_CACHE_GB", str((new.stat().st_size + middle_size(store)) * 1.2 / 1e9))
    assert store.shard(1).path == middle
    assert middle in copies(remote_folders)
    assert old not in copies(remote_folders)
    assert new in copies(remote_folders)


def middle_size(store: hs.Store) -> int:
    return store.place.sizes("shards")[store.shard_names[1]]


@pytest.mark.parametrize("shard_format", ["hdf5", "arrow"])
def test_a_damaged_copy_is_fetched_again_and_never_read(remote_folders: Path, shard_format: str) -> None:
    url = f"memory://rot/{shard_format}"
    store = many_shards(url, num_shards=1, shard_format=shard_format)
    expected = all_steps(store)
    store.close()
    (copy,) = copies(remote_folders)
    whole = copy.read_bytes()
    for damaged in (whole[:100], bytes([whole[0] ^ 1]) + whole[1:], whole[:1500] + bytes(len(whole) - 1500)):
        copy.write_bytes(damaged)
        store = hs.open(url)
        assert all(map(np.array_equal, all_steps(store), expected))
        store.close()
        assert copy.read_bytes() == whole


def test_a_shard_that_is_bad_although_named_by_its_bytes_is_named_by_its_url(remote_folders: Path) -> None:
    many_shards("memory://bad", num_shards=1)
    data = b"\x89HDF\r\n\x1a\n" + bytes(1000)
    name = f"{hashlib.sha256(data).hexdigest()}.h5"
    put_object(f"memory://bad/shards/{name}", data)
    with pytest.raises(DamagedData, match=rf"^memory://bad/shards/{name}: the file cannot be read"):
        hs.open("memory://bad").num_steps  # noqa: B018


FETCHER = """
    import sys
    import historystore as hs
    from historystore.remote.place import RemotePlace

    download = RemotePlace.download
    def noted(self, name, path):
        print("download", flush=True)
        download(self, name, path)
    RemotePlace.download = noted
    store = hs.open({url!r})
    print("ready", flush=True)
    sys.stdin.readline()
    store.shard(0).header
"""


def test_several_processes_download_a_shard_once(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{s3.new_bucket()}/store"
    store = many_shards(url, num_shards=1)
    assert hs.open(url, mode="a").digest == store.digest
    store.place.keep_derived("index.arrow", store.index.encode(), is_writing=True)
    monkeypatch.setenv("HISTORYSTORE_CACHE", str(tmp_path / "fresh"))
    script = textwrap.dedent(FETCHER).format(url=url)
    crowd = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.stdout.readline() for process in crowd] == ["ready\n"] * 3
    outputs = [process.communicate("\n")[0] for process in crowd]
    assert [process.returncode for process in crowd] == [0, 0, 0]
    assert sum(output.count("download") for output in outputs) == 1


def test_a_place_and_its_shards_can_be_pickled(remote_folders: Path) -> None:
    store = many_shards("memory://pickled", num_shards=2)
    again = pickle.loads(pickle.dumps(store))
    assert str(again.place) == "memory://pickled"
    assert all(map(np.array_equal, all_steps(again), all_steps(store)))
    shard = pickle.loads(pickle.dumps(store.shard(0)))
    assert shard.header == store.shard(0).header


def test_a_size_that_is_no_number_is_refused(remote_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = many_shards("memory://size", num_shards=1)
    monkeypatch.setenv("HISTORYSTORE_CACHE_GB", "plenty")
    monkeypatch.setenv("HISTORYSTORE_CACHE", str(remote_folders / "fresh"))
    with pytest.raises(InvalidValue, match=r"HISTORYSTORE_CACHE_GB: expected a number of gigabytes .* got 'plenty'"):
        store.shard(0).path  # noqa: B018


def test_what_a_dead_process_left_in_the_cache_is_swept(remote_folders: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = remote_folders / "cache" / f".{os.uname().nodename}-{dead.pid}-{'0' * 16}.tmp"
    (left / "shards").mkdir(parents=True)
    cache.scratch_folder()
    assert not left.exists()
