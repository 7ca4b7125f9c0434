"""Windows out of a remote store, in this process and in workers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from s3_server import S3Server
from store_samples import create, life, record
from torch.utils.data import DataLoader

import historystore as hs
from historystore.torch import WindowDataset


def four_shards(place: Path | str, shard_format: str) -> hs.Store:
    with hs.StoreWriter(create(place), format=shard_format) as writer:
        for seed in range(4):
            record(writer, life(seed=seed))
            writer.seal()
    return hs.open(place)


def batches(dataset: WindowDataset, *, context: str | None = None) -> list[dict[str, torch.Tensor]]:
    num_workers = 0 if context is None else 2
    loader = DataLoader(
        dataset,
        sampler=dataset.batches(4),
        batch_size=None,
        num_workers=num_workers,
        multiprocessing_context=context,
    )
    return list(loader)


@pytest.mark.parametrize("context", [None, "fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("is_used", "shard_format"), [(False, "hdf5"), (True, "hdf5"), (True, "arrow")])
def test_windows_are_those_of_the_same_store_in_a_folder(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, context: str | None, is_used: bool, shard_format: str
) -> None:
    url = f"{s3.new_bucket()}/store"
    four_shards(url, shard_format)
    local = WindowDataset(four_shards(tmp_path / "local", shard_format), context_length=8)
    monkeypatch.setenv("HISTORYSTORE_CACHE", str(tmp_path / "fresh"))
    remote = WindowDataset(url, context_length=8)
    if is_used:  # files and connections are open when the workers are forked
        remote[0]
        shutil.rmtree(tmp_path / "fresh")
    got, expected = batches(remote, context=context), batches(local)
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
