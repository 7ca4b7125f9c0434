"""Stores of every version of the format are read for ever; `tests/golden/make.py` made them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from golden_facts import facts

import historystore as hs
from historystore.documents import FORMAT_VERSION
from historystore.errors import OlderFormat
from historystore.migrate import migrate
from historystore.replay import learner_digest
from historystore.shards import open_shard
from historystore.verify import verify

GOLDEN = Path(__file__).parent / "golden"
STORES = sorted(path.parent.relative_to(GOLDEN) for path in GOLDEN.glob("*/*/expected.json"))
OLDER = [store for store in STORES if store.parts[0] != FORMAT_VERSION]


def expected(store: Path) -> object:
    return json.loads((GOLDEN / store / "expected.json").read_text(encoding="utf-8"))


def copied(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / store / "store", tmp_path / "store"))


def problems(path: Path) -> list[str]:
    return [str(problem) for problem in verify(path) if not problem.is_note]


def test_every_version_has_its_stores_and_they_are_small() -> None:
    assert {store.parts[0] for store in STORES} == {"0.1", FORMAT_VERSION}
    for version in ("0.1", FORMAT_VERSION):
        assert sum(file.stat().st_size for file in (GOLDEN / version).rglob("*") if file.is_file()) < 100_000


@pytest.mark.parametrize("store", STORES, ids=str)
def test_a_golden_store_says_what_it_always_said(store: Path, tmp_path: Path) -> None:
    opened = hs.open(copied(store, tmp_path))
    assert facts(opened) == expected(store)
    assert [learner_digest(learner) for learner in opened.learners] == [learner.digest for learner in opened.learners]


@pytest.mark.parametrize("store", STORES, ids=str)
def test_a_golden_store_is_whole(store: Path, tmp_path: Path) -> None:
    assert problems(copied(store, tmp_path)) == []


@pytest.mark.parametrize("store", OLDER, ids=str)
def test_migrated_an_older_one_says_the_same_and_is_whole_and_of_this_version_alone(
    store: Path, tmp_path: Path
) -> None:
    path = copied(store, tmp_path)
    with pytest.raises(OlderFormat):
        hs.open(path, mode="a")
    for _ in migrate(path):
        pass
    assert facts(hs.open(path, mode="a")) == expected(store)
    assert problems(path) == []
    headers = [open_shard(shard).header for shard in (path / "shards").iterdir()]
    assert {header.format_version for header in headers} == {FORMAT_VERSION}
    assert all(header.store == hs.open(path).document for header in headers)


def test_the_same_lives_have_the_same_digests_in_every_version() -> None:
    found = [json.loads((GOLDEN / version / "grid" / "expected.json").read_text()) for version in ("0.1", "1.0")]
    assert found[0]["digest"] == found[1]["digest"]
