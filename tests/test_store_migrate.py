"""A migration, broken off anywhere, loses nothing and is finished by the same call."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from store_samples import WAYS, small_store

import historystore as hs
from historystore.convert import convert
from historystore.documents import FORMAT_VERSION, canonical_json, sha256_hex
from historystore.errors import DamagedData, OlderFormat
from historystore.migrate import PlannedStep, migrate, planned_steps
from historystore.shards import format_name, open_shard, read_tables, shard_format
from historystore.verify import verify

OLD = Path(__file__).parent / "golden" / "0.1" / "grid" / "store"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def finish(path: Path) -> None:
    for _ in migrate(path):
        pass


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_adding_to_an_older_store_is_refused_in_one_line_that_says_hist_migrate(old: Path) -> None:
    document = hs.open(old).document
    spaces = {"observation_space": hs.open(old).observation_space, "action_space": hs.open(old).action_space}
    for write in (lambda: hs.open(old, mode="a"), lambda: hs.create(old, family=document.family, **spaces)):
        with pytest.raises(OlderFormat) as caught:
            write()
        assert str(caught.value) == f"{old}: is in format 0.1, adding to it takes 1.0. Run hist migrate {old}"


def test_an_older_store_is_migrated_before_it_is_converted(old: Path, tmp_path: Path) -> None:
    with pytest.raises(OlderFormat) as caught:
        list(convert(old, tmp_path / "out", format="arrow"))
    assert str(caught.value) == f"{old}: is in format 0.1, converting it takes 1.0. Run hist migrate {old}"
    finish(old)
    list(convert(old, tmp_path / "out", format="arrow"))
    assert hs.open(tmp_path / "out").digest == hs.open(old).digest


def test_the_plan_names_each_step_and_what_it_writes_and_changes_nothing(old: Path) -> None:
    hs.open(old).index.save(old / "index.arrow")
    before = contents(old)
    num_bytes = sum(shard.stat().st_size for shard in (old / "shards").iterdir())
    assert planned_steps(old) == (PlannedStep(from_version="0.1", to_version="1.0", num_shards=3, num_bytes=num_bytes),)
    assert contents(old) == before


def test_a_store_of_this_version_is_left_alone(tmp_path: Path) -> None:
    path = small_store(tmp_path / "s").path
    before = contents(path)
    assert planned_steps(path) == ()
    finish(path)
    assert contents(path) == before


def test_the_columns_are_copied_compressed_as_they_lie(old: Path) -> None:
    def chunks(shard: Path) -> dict[str, list[tuple[int, bytes]]]:
        found: dict[str, list[tuple[int, bytes]]] = {}

        def note(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset) and name != "header":
                count = item.id.get_num_chunks()
                infos = [item.id.get_chunk_info(i) for i in range(count)]
                found[name] = [item.id.read_direct_chunk(info.chunk_offset) for info in infos]

        with h5py.File(shard) as file:
            file.visititems(note)
        return found

    before = {shard.name: chunks(shard) for shard in (old / "shards").iterdir()}
    finish(old)
    after = {open_shard(shard).header.replaces[0]: chunks(shard) for shard in (old / "shards").iterdir()}
    assert after == before


class Killed(BaseException):
    """Stands for SIGKILL: no handler of ours may catch it and go on."""


def stop_at(patch: pytest.MonkeyPatch, number: int) -> None:
    """Let nothing that changes a folder happen from its n-th change on."""
    left = number

    def limited(change: Callable[..., object]) -> Callable[..., object]:
        def stopping(path: Path, *args: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return change(path, *args, **options)

        return stopping

    for name in ("rename", "unlink"):
        patch.setattr(Path, name, limited(getattr(Path, name)))


def test_killed_at_any_moment_it_is_the_same_whole_store_and_the_same_call_finishes(old: Path, tmp_path: Path) -> None:
    digest, number, was_killed = hs.open(old).digest, 0, True
    finish(Path(shutil.copytree(old, tmp_path / "whole")))
    shards = {name for name in contents(tmp_path / "whole") if name.endswith(".h5")}
    while was_killed:
        path = Path(shutil.copytree(old, tmp_path / f"try{number}"))
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, number)
            try:
                finish(path)
                was_killed = False
            except Killed:
                pass
        assert [str(problem) for problem in verify(path) if not problem.is_note] == [], number
        assert hs.open(path).digest == digest, number
        finish(path)
        assert hs.open(path, mode="a").digest == digest
        assert {name for name in contents(path) if name.endswith(".h5")} == shards, number
        number += 1
    assert number > 2 * 3 + 1  # each shard written and deleted, and store.json


def test_damage_is_never_carried_over_and_nothing_is_deleted(old: Path) -> None:
    shard = min((old / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    names = {file.name for file in (old / "shards").iterdir()}
    with pytest.raises(DamagedData):
        finish(old)
    assert names <= {file.name for file in (old / "shards").iterdir()}


def test_a_step_that_changes_a_digest_is_refused_and_the_store_is_as_it_was(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from historystore import migrations
    from historystore.migrations.from_0_1 import STEP
    from historystore.migrations.step import Step

    def without_last_update(path: Path) -> bytes:
        data = STEP.shard(path)
        changed = path.with_name(f"{'f' * 64}.h5")
        changed.write_bytes(data)
        tables = read_tables(open_shard(changed))
        changed.unlink()
        tables.steps["reward"][...] += 1
        return shard_format(format_name(path)).encode(tables)

    wrong = Step(to_version=STEP.to_version, document=STEP.document, shard=without_last_update)
    monkeypatch.setattr(migrations, "STEPS", {"0.1": lambda: wrong})
    names = {file.name for file in (old / "shards").iterdir()}
    digest = hs.open(old).digest
    with pytest.raises(DamagedData, match=r"its migrated data [0-9a-f]{12}\. The store is as it was\. Run hist verify"):
        finish(old)
    assert {file.name for file in (old / "shards").iterdir()} == names
    assert hs.open(old).digest == digest
    assert hs.open(old).document.format_version == "0.1"


def test_a_version_without_a_step_is_one_line(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from historystore import migrations

    monkeypatch.setattr(migrations, "STEPS", {"0.2": None})
    with pytest.raises(OlderFormat, match=r"no step leads on from format 0\.1, expected 0\.2\. Record it anew\.$"):
        planned_steps(old)


def test_an_old_shard_that_comes_later_is_migrated_by_the_next_call(old: Path) -> None:
    """A recorder of an older version that was still running adds to a store of this one."""
    (late, *_) = sorted((old / "shards").iterdir())
    moved = late.rename(old.parent / late.name)
    finish(old)
    moved.rename(late)
    digest = hs.open(old).digest
    assert [step.num_shards for step in planned_steps(old)] == [1]
    finish(old)
    assert hs.open(old).digest == digest
    assert planned_steps(old) == ()
    assert hs.open(old).document.format_version == FORMAT_VERSION


@pytest.mark.parametrize("way", WAYS)
def test_a_shard_of_any_kind_takes_another_header_and_keeps_the_rest(tmp_path: Path, way: str) -> None:
    store = small_store(tmp_path / "s", way=way)
    path = store.path / "shards" / store.shard_names[0]
    before = read_tables(open_shard(path))
    header = before.header.model_copy(update={"replaces": (path.name,)})
    data = shard_format(format_name(path)).with_header(path, canonical_json(header))
    other = path.with_name(f"{sha256_hex(data)}{path.suffix}")
    other.write_bytes(data)
    after = read_tables(open_shard(other))
    assert after.header == header
    assert after.learners == before.learners
    for name, column in before.steps.items():
        assert after.steps[name].tobytes() == column.tobytes()
    assert hs.open(store.path).digest == store.digest
