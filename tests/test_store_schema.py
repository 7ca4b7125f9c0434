"""The published contract: what is generated is what lies in schemas/, and it is true of real stores."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from store_samples import checkpoint, create, life, record, small_store

import historystore as hs
from historystore.fields import STEP_FIELDS
from historystore.schema import DOCUMENTS, export_schemas, schema_files
from historystore.shards import open_shard
from historystore.shards.protocol import TABLES

PUBLISHED = Path(__file__).parent.parent / "schemas" / "history" / "v0"


def schema(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((PUBLISHED / f"{name}.schema.json").read_text())
    return document


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema(name))


def test_the_published_files_are_what_the_models_say_today(tmp_path: Path) -> None:
    """If not: `hist schema export schemas`, and a changelog line."""
    export_schemas(tmp_path)
    exported = {path.name: path.read_bytes() for path in (tmp_path / "history" / "v0").iterdir()}
    published = {path.name: path.read_bytes() for path in PUBLISHED.iterdir() if path.name != "SPEC.md"}
    assert exported == published == schema_files()


def test_hist_schema_export_names_each_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hist_cli", "schema", "export", "out"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [f"out/history/v0/{name}" for name in schema_files()]
    assert {path.name for path in (tmp_path / "out" / "history" / "v0").iterdir()} == set(schema_files())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_schema_is_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> hs.Store:
    store = small_store(tmp_path_factory.mktemp("schema") / "store")
    checkpoint(store.path)
    return store


def documents(store: hs.Store) -> dict[str, list[Any]]:
    """Return the documents of a store as any JSON reader would see them."""
    readers = [open_shard(path) for path in (store.path / "shards").iterdir()]
    rows = [row.model_dump(mode="json") for reader in readers for row in reader.learners]
    return {
        "store": [json.loads((store.path / "store.json").read_bytes())],
        "shard-header": [reader.header.model_dump(mode="json") for reader in readers],
        "learner": rows,
        "learner-spec": [row["spec"] for row in rows],
        "checkpoint": [json.loads(path.read_bytes()) for path in store.path.glob("checkpoints/*/model.json")],
    }


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_independent_validator_accepts_every_document_of_a_real_store(store: hs.Store, name: str) -> None:
    found = documents(store)[name]
    assert found
    for document in found:
        validator(name).validate(document)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_and_refuses_one_with_an_unknown_key_or_without_a_known_one(store: hs.Store, name: str) -> None:
    document = documents(store)[name][0]
    assert not validator(name).is_valid(document | {"unknown": 1})
    for key in document:
        assert not validator(name).is_valid({other: value for other, value in document.items() if other != key})


def test_the_field_table_names_every_step_field_and_table(store: hs.Store) -> None:
    table = json.loads((PUBLISHED / "fields.json").read_text())
    assert set(table["steps"]) == set(STEP_FIELDS)
    assert table["tables"] == {name: dict(columns) for name, columns in TABLES.items()}
    assert {field.name for field in store.fields} <= set(table["steps"])


def read_shard(path: Path) -> Any:
    """Run the reader of the specification."""
    code = re.findall(r"```python\n(.*?)```", (PUBLISHED / "SPEC.md").read_text(), re.DOTALL)
    assert len(code) == 1
    module: dict[str, Any] = {}
    exec(code[0], module)
    return module["read_shard"](path)


def test_the_reader_of_the_specification_reads_what_was_written(tmp_path: Path) -> None:
    lived = life(num_steps=50, num_streams=2)
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, lived)
    (shard,) = (tmp_path / "s" / "shards").iterdir()
    segments, episodes, ends, updates = read_shard(shard)
    assert [(row["learner"], stream, first) for row, stream, first, _ in segments] == [
        (lived.spec.id, stream, 0) for stream in range(2)
    ]
    for _, stream, _, arrays in segments:
        for name, values in lived.steps.items():
            assert arrays[name].dtype == values.dtype
            assert np.array_equal(arrays[name], values[:, stream])
    is_end = lived.steps["terminated"] | lived.steps["truncated"]
    assert int(np.count_nonzero(episodes["terminated"] | episodes["truncated"])) == is_end.sum()
    steps, streams = ends["step"].astype(int), ends["stream"].astype(int)
    goes_on = ~is_end[steps, streams]
    assert np.array_equal(ends["observation"][~goes_on], lived.following[steps, streams][~goes_on])
    assert updates["values/train/loss"].tolist() == [0, 1]


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_digest_taken_by_the_words_of_the_specification_is_the_learners(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, life(num_steps=50, num_streams=2))
    (shard,) = (tmp_path / "s" / "shards").iterdir()
    segments, episodes, ends, updates = read_shard(shard)
    row = segments[0][0]
    streams = [arrays for _, _, _, arrays in segments]
    episodes["is_running"] = ~np.asarray(episodes["terminated"] | episodes["truncated"], bool)

    def of_stream(table: dict[str, Any], stream: int, *order: str) -> dict[str, Any]:
        rows = np.flatnonzero(table["stream"] == stream)
        rows = rows[np.lexsort([table[name][rows] for name in order])]
        return {name: column[rows] for name, column in table.items()}

    triples = [of_stream(episodes, stream, "first_step", "is_running") for stream in range(2)]
    keys = [np.stack([t[name].astype("<i8") for name in ("first_step", "length", "seed")], axis=1) for t in triples]
    texts = b"".join(
        canonical(
            [
                int(updates["update"][i]),
                int(updates["step"][i]),
                float(updates["learning_rate"][i]).hex(),
                [
                    [name[len("values/") :], float(updates[name][i]).hex()]
                    for name in sorted(updates)
                    if name.startswith("values/")
                    and not name.startswith("values/time/")
                    and not np.isnan(updates[name][i])
                ],
            ]
        )
        for i in np.argsort(updates["update"])
    )
    following = [of_stream(ends, stream, "step")["observation"].astype("<i8") for stream in range(2)]
    document = {
        "learner": sha256(canonical(row["spec"])),
        "num_steps": [50, 50],
        "fields": [[name, column.dtype.str, list(column.shape[1:])] for name, column in sorted(streams[0].items())],
        "steps": {name: [sha256(arrays[name].tobytes()) for arrays in streams] for name in streams[0]},
        "final_observations": {"observation": [sha256(column.tobytes()) for column in following]},
        "episodes": [sha256(column.tobytes()) for column in keys],
        "updates": sha256(texts),
    }
    (learner,) = hs.open(tmp_path / "s").learners
    assert sha256(canonical(document)) == row["digest"] == learner.digest
    assert sha256(canonical([[learner.id, learner.digest]])) == hs.open(tmp_path / "s").digest
