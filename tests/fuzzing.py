"""Every parser of foreign bytes, fed with what bad disks and hostile people make of whole files.

    python tests/fuzzing.py --examples 1000

It may refuse them with a HistoryError, or return what the whole file holds; nothing else. `tests/test_store_fuzz.py`
runs this as a process of its own, because a library in C could take the process with it; the last line then names the
parser.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from damages import MUTATIONS
from gymnasium import spaces
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from space_samples import are_equal, sampled
from store_samples import WAYS, checkpoint, small_store

import historystore as hs
from historystore.card import is_card_whole, write_card
from historystore.checkpoints import read_checkpoint
from historystore.errors import HistoryError
from historystore.index import Index, read_index
from historystore.packed import pack, unpack
from historystore.shards import open_shard
from historystore.shards.protocol import TABLES

Parse = Callable[[bytes], Any]
"""Parse bytes; None where they are refused. What is returned must equal what the whole bytes give."""
PACKED = spaces.Dict(
    {
        "text": spaces.Text(8),
        "graph": spaces.Graph(spaces.Box(-1, 1, (2,)), spaces.Discrete(3)),
        "items": spaces.Sequence(spaces.OneOf([spaces.Discrete(3), spaces.Box(0, 255, (2, 2), np.uint8)])),
        "stack": spaces.Sequence(spaces.Box(0, 1, (2,)), stack=True),
    }
)


def shard_target(folder: Path, way: str) -> tuple[bytes, Parse]:
    """Every part of a shard by itself, as one damaged part must not take others with it unseen."""
    store = small_store(folder / way, num_learners=2, num_steps=30, num_streams=1, way=way)
    path = store.path / "shards" / store.shard_names[0]
    whole, copy = everything(path), folder / path.name

    def parse(data: bytes) -> dict[str, bytes]:
        copy.write_bytes(data)
        found = everything(copy)
        return {**whole, **found}  # a part that is refused is no wrong one

    return path.read_bytes(), parse


def everything(path: Path) -> dict[str, bytes]:
    """Return all that can be read of a shard, part by part."""
    found: dict[str, bytes] = {}
    with closing(open_shard(path)) as reader, suppress(HistoryError):
        found["header"] = reader.header.model_dump_json().encode()
        for table in ("learners", *TABLES):
            with suppress(HistoryError):
                part = getattr(reader, table)
                found[table] = repr(part if table == "learners" else bits(part)).encode()
        for field in reader.header.fields:
            with suppress(HistoryError):
                found[f"steps/{field.name}"] = bits({"": reader.read(field.name, 0, reader.header.num_steps)})[0][1]
            with suppress(HistoryError):
                rows = np.arange(0, reader.header.num_steps, 7)
                found[f"taken/{field.name}"] = bits({"": reader.take(field.name, rows)})[0][1]
    return found


def bits(columns: dict[str, np.ndarray]) -> list[tuple[str, bytes]]:
    """Return columns such that NaN equals NaN."""
    return [(name, column.tobytes()) for name, column in sorted(columns.items())]


def file_target(path: Path, read: Callable[[], Any]) -> tuple[bytes, Parse]:
    """Return a file that is read in its place."""
    whole = path.read_bytes()

    def parse(data: bytes) -> Any:
        path.write_bytes(data)
        try:
            return read()
        except HistoryError:
            return None
        finally:
            path.write_bytes(whole)

    return whole, parse


def index_bits(index: Index | None) -> Any:
    """Return all columns of an index."""
    if index is None:
        return None
    names = ("history_num_steps", "episode_return", "piece_offset", "learner_row")
    return [index.json("learner_id"), index.json("layouts"), *(index.array(name).tobytes() for name in names)]


def packed_target(seed: int) -> tuple[bytes, Parse]:
    """Bytes without a checksum: whatever they are read as must be their very own value."""
    data = pack(PACKED, sampled(PACKED, seed=seed, num_values=1)[0])

    def parse(data: bytes) -> None:
        with suppress(HistoryError):
            value = unpack(PACKED, data)
            again = unpack(PACKED, pack(PACKED, value))
            assert are_equal(value, again) or "nan" in str(value)

    return data, parse


def targets(folder: Path) -> dict[str, tuple[bytes, Parse]]:
    """Return every parser with whole bytes for it."""
    store = small_store(folder / "store", num_learners=1, num_steps=30)
    write_card(store)
    path, name = store.path, checkpoint(store.path)
    model = path / "checkpoints" / name
    return {
        **{f"shard, {way}": shard_target(folder, way) for way in WAYS},
        "index": file_target(path / "index.arrow", lambda: index_bits(read_index(path / "index.arrow"))),
        "store.json": file_target(path / "store.json", lambda: hs.open(path).document),
        "card": file_target(path / "README.md", lambda: is_card_whole((path / "README.md").read_bytes()) or None),
        "checkpoint": file_target(model / "model.json", lambda: read_checkpoint(path, name)),
        "checkpoint's file": file_target(model / "policy.safetensors", lambda: read_checkpoint(path, name)),
        **{f"packed value {seed}": packed_target(seed) for seed in range(3)},
    }


def fuzz(data: bytes, parse: Parse, *, num_examples: int) -> int:
    """Feed a parser; return how many times the bytes were not the whole ones."""
    expected = parse(data)
    num_tries = 0

    @settings(max_examples=num_examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.sampled_from(sorted(MUTATIONS)), min_size=1, max_size=3), st.integers(0, 2**32))
    def hold(names: list[str], seed: int) -> None:
        nonlocal num_tries
        rng, damaged = random.Random(seed), data
        for name in names:
            damaged = MUTATIONS[name](damaged, rng) if damaged else damaged
        num_tries += damaged != data
        found = parse(damaged)
        assert found is None or found == expected

    hold()
    return num_tries


def main() -> None:
    """Feed every parser."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=1000, help="of each parser")
    parser.add_argument("--only", default="", help="parsers whose name begins so")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, (data, parse) in targets(Path(folder)).items():
            if name.startswith(options.only):
                print(f"{name}: ", end="", flush=True)
                print(fuzz(data, parse, num_examples=options.examples), flush=True)


if __name__ == "__main__":
    sys.exit(main())
