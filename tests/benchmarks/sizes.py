"""Bytes a step of one store in each format and profile, and in other layouts: `python tests/benchmarks/sizes.py STORE`.

The first column counts shards that hold observation, action, reward and the two flags alone, the second everything that
was recorded (log-probabilities, values, updates too). What there is to compare with holds the step fields alone:

- xz: `xz -9` of those columns in their stored dtypes, a column after the other, a history after the other: no reader
  of single windows could use it.
- XLand: the XLand-100B layout, gzip 6. DICP: DICP's. Minari: a dataset of the Minari package.

All shards are first joined into as few as 64 MiB allows, which `hist compact` does too.
"""

from __future__ import annotations

import argparse
import lzma
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from historystore.exchange import iter_exported
from historystore.fields import REQUIRED_FIELDS
from historystore.rewrite import joined
from historystore.shards import ShardTables, read_tables, shard_format
from historystore.store import Store
from historystore.store import open as open_store

WAYS = (("hdf5", "standard"), ("hdf5", "archive"), ("hdf5", "compat"), ("arrow", "fast"), ("arrow", "archive"))
LAYOUTS = ("xland", "dicp", "minari")


def step_fields_alone(tables: ShardTables) -> ShardTables:
    """Return a shard without what the compared layouts do not hold: optional fields, updates."""
    fields = tuple(field for field in tables.header.fields if field.name.partition("/")[0] in REQUIRED_FIELDS)
    updates = {name: column[:0] for name, column in tables.updates.items()}
    shape = tables.header.tables["updates"].model_copy(update={"num_rows": 0})
    header = tables.header.model_copy(update={"fields": fields, "tables": {**tables.header.tables, "updates": shape}})
    steps = {field.name: tables.steps[field.name] for field in fields}
    return replace(tables, header=header, steps=steps, updates=updates)


def xz_bytes(tables: ShardTables) -> int:
    """Return the bytes that `xz -9` makes of the step fields."""
    columns = [tables.steps[f.name].astype(f.stored_dtype) for f in tables.header.fields]
    return len(lzma.compress(b"".join(np.ascontiguousarray(column).tobytes() for column in columns), preset=9))


def exported_bytes(store: Store, layout: str) -> int | None:
    """Return the bytes of a store in another layout."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out-v0"
        for _ in iter_exported(store.path, out, to=layout):
            pass
        files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
        return sum(path.stat().st_size for path in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--without", nargs="*", default=[], choices=LAYOUTS, help="layouts to leave out")
    arguments = parser.parse_args()
    store = open_store(arguments.store)
    whole = joined([read_tables(store.shard(index)) for index in range(len(store.shard_names))])
    alone, num_steps = step_fields_alone(whole), whole.header.num_steps
    xz = xz_bytes(alone) / num_steps
    print(f"{num_steps:,} steps of {len(store.learners):,} learners; bytes a step")
    print(f"{'':18}{'step fields':>12}{'all':>8}{'x xz -9':>9}")
    for name, profile in WAYS:
        way = shard_format(name, profile=profile)
        small, large = (len(way.encode(tables)) / num_steps for tables in (alone, whole))
        print(f"{name + ' ' + profile:18}{small:12.3f}{large:8.2f}{small / xz:9.2f}")
    print(f"{'xz -9':18}{xz:12.3f}")
    for layout in (layout for layout in LAYOUTS if layout not in arguments.without):
        print(f"{layout:18}{exported_bytes(store, layout) / num_steps:12.3f}")


if __name__ == "__main__":
    main()
