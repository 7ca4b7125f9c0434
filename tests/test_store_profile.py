"""The profile in which a store is written decides its compression, and nothing that is read from it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from store_samples import create, life, record

import historystore as hs

STOCK_READER = textwrap.dedent("""
    import sys
    import h5py
    def read(name, item):
        if isinstance(item, h5py.Dataset):
            item[...]
    with h5py.File(sys.argv[1]) as file:
        file.visititems(read)
""")


def written(path: Path, **options: str) -> hs.Store:
    store = create(path)
    with hs.StoreWriter(store, **options) as writer:
        record(writer, life(num_steps=3000), finish="complete")
    store.refresh()
    return store


def read_with_stock_h5py(store: hs.Store) -> int:
    (shard,) = (store.path / "shards").iterdir()
    return subprocess.run([sys.executable, "-c", STOCK_READER, str(shard)], capture_output=True, check=False).returncode


def test_a_compat_shard_is_read_by_h5py_alone_and_a_standard_one_is_not(tmp_path: Path) -> None:
    assert read_with_stock_h5py(written(tmp_path / "compat", profile="compat")) == 0
    assert read_with_stock_h5py(written(tmp_path / "standard")) != 0


def test_both_profiles_have_the_same_digest(tmp_path: Path) -> None:
    digest = written(tmp_path / "compat", profile="compat").digest
    assert digest == written(tmp_path / "standard", profile="standard").digest
