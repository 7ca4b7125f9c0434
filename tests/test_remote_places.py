"""Places: what a path or URL names, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from s3_server import objects, put_object
from store_samples import create, small_store

import historystore as hs
from historystore.card import write_card
from historystore.checkpoints import read_checkpoint
from historystore.errors import InvalidValue, NotAStore, StoreNotFound
from historystore.places import path_or_url, place_of
from historystore.recording import plan_recording
from historystore.remote.folders import cache_folder, spool_folder


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("store", Path("store")),
        (Path("a/store"), Path("a/store")),
        ("file:///a/store", Path("/a/store")),
        ("local:///a/store", Path("/a/store")),
        ("s3://bucket/a/store/", "s3://bucket/a/store"),
        ("memory://store", "memory://store"),
    ],
)
def test_a_path_or_url_names_a_place(where: str | Path, expected: str | Path) -> None:
    assert path_or_url(where) == expected
    assert str(place_of(where)) == str(expected)
    assert place_of(place_of(where)) is not None


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    store = small_store(f"file://{tmp_path}/store")
    assert store.path == tmp_path / "store"
    assert hs.open(tmp_path / "store").digest == store.digest


def test_a_store_in_memory_is_a_store(remote_folders: Path) -> None:
    store = small_store("memory://there/store")
    assert repr(store) == "Store('memory://there/store', grid, 1 shards)"
    assert write_card(store) == "memory://there/store/README.md"
    assert b"# store" in objects("memory://there/store")["README.md"]
    put_object("memory://there/notes.txt", b"mine")
    assert hs.list_stores("memory://there") == ["memory://there/store"]
    with pytest.raises(InvalidValue, match="memory://there/store: is remote, expected a folder of this machine"):
        store.path  # noqa: B018
    with pytest.raises(InvalidValue, match="memory://there/store: no learner with an id beginning 'no'"):
        store.learner("no")
    with pytest.raises(StoreNotFound, match=f"memory://there/store/checkpoints/{'0' * 64}: no such checkpoint"):
        read_checkpoint("memory://there/store", "0" * 64)
    with pytest.raises(NotAStore, match=r"memory://there/notes\.txt: is no shard, expected a SHA-256 and "):
        hs.open("memory://there/notes.txt")
    with pytest.raises(NotAStore, match=r"memory://there: is no store, it has no store\.json"):
        hs.open("memory://there")


def test_equal_stores_created_at_one_url_are_one_store(remote_folders: Path) -> None:
    first = create("memory://same/store").document
    data = objects("memory://same/store")["store.json"]
    fsspec.filesystem("memory").rm("/same", recursive=True)
    assert create("memory://same/store").document == first
    assert objects("memory://same/store")["store.json"] == data
    assert create("memory://other/store").document.id != first.id


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidValue, match="holds a password") as raised:
        place_of("s3://me:secret@bucket/store")
    assert "secret" not in str(raised.value)


def test_a_url_that_nobody_knows_is_one_line(remote_folders: Path) -> None:
    with pytest.raises(InvalidValue, match=r"nope://x/y: Protocol not known: nope\. Use a URL that fsspec knows"):
        hs.open("nope://x/y")


def test_a_backend_that_is_not_installed_is_named_with_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "import historystore as hs\n"
        "try: hs.open('s3://bucket/store')\n"
        "except hs.HistoryError as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "MissingExtra s3://bucket/store: needs a package that is not installed (Install s3fs to access S3). "
        "Run pip install 'historystore[remote]', or install the fsspec backend of your server.\n"
    )


def test_a_recording_is_not_put_into_the_memory_of_each_of_its_processes() -> None:
    with pytest.raises(InvalidValue, match="memory://x: lives within one process, and a recording has several"):
        plan_recording("ppo", "darkroom", "0", out="memory://x")


def test_importing_the_store_connects_to_nothing() -> None:
    code = "import sys, historystore, historystore.verify; print([m for m in ('fsspec', 's3fs') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_folders_of_this_machine_are_where_they_are_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HISTORYSTORE_CACHE", "HISTORYSTORE_SPOOL", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(sys, "platform", "linux")
    assert (cache_folder(), spool_folder()) == (
        Path("/home/me/.cache/historystore"),
        Path("/home/me/.local/state/historystore"),
    )
    monkeypatch.setenv("XDG_CACHE_HOME", "/big")
    assert cache_folder() == Path("/big/historystore")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path("/home/me/Library/Caches/historystore")
    monkeypatch.setenv("HISTORYSTORE_CACHE", "/mine")
    assert cache_folder() == Path("/mine")
