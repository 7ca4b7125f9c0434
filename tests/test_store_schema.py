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
from gymnasium import spaces
from hypothesis import given, settings
from space_samples import all_spaces
from store_samples import WAYS, checkpoint, create, life, record, small_store

import historystore as hs
from historystore.documents import FORMAT_VERSION
from historystore.fields import ENCODINGS, STEP_FIELDS, flatten
from historystore.schema import DOCUMENTS, export_schemas, folder_name, schema_files
from historystore.shards import open_shard, read_tables
from historystore.shards.protocol import TABLES
from historystore.spaces import space_to_json

RELEASED = Path(__file__).parent.parent / "schemas" / "history"
PUBLISHED = RELEASED / folder_name().rpartition("/")[2]
FROZEN = Path(__file__).parent / "schemas.sha256"
GOLDEN = Path(__file__).parent / "golden"
SHARDS = sorted((GOLDEN / FORMAT_VERSION).glob("*/store/shards/*"))


def schema(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((PUBLISHED / f"{name}.schema.json").read_text())
    return document


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema(name))


def test_the_published_files_are_what_the_models_say_today(tmp_path: Path) -> None:
    """If not: `hist schema export schemas`, and a changelog line."""
    export_schemas(tmp_path)
    exported = {path.name: path.read_bytes() for path in (tmp_path / folder_name()).iterdir()}
    published = {path.name: path.read_bytes() for path in PUBLISHED.iterdir() if path.name != "SPEC.md"}
    assert exported == published == schema_files()


def test_hist_schema_export_names_each_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hist_cli", "schema", "export", "out"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [f"out/{folder_name()}/{name}" for name in schema_files()]
    assert {path.name for path in (tmp_path / "out" / folder_name()).iterdir()} == set(schema_files())


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
        "space": [json.loads((store.path / "store.json").read_bytes())["observation_space"]],
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
    assert validator(name).is_valid(document | {"unknown": 1}) == (name == "space")
    for key in document:
        assert not validator(name).is_valid({other: value for other, value in document.items() if other != key})


@settings(max_examples=100, deadline=None)
@given(space=all_spaces())
def test_an_independent_validator_accepts_every_space(space: spaces.Space[Any]) -> None:
    validator("space").validate(json.loads(canonical(space_to_json(space))))


def test_it_refuses_a_store_whose_space_is_none(store: hs.Store) -> None:
    document = documents(store)["store"][0]
    assert not validator("store").is_valid(document | {"action_space": {"kind": "Box", "shape": [2]}})
    assert not validator("store").is_valid(document | {"action_space": {"kind": "Cube"}})


def test_the_field_table_names_every_step_field_and_table(store: hs.Store) -> None:
    table = json.loads((PUBLISHED / "fields.json").read_text())
    assert set(table["steps"]) == set(STEP_FIELDS)
    assert table["tables"] == {name: dict(columns) for name, columns in TABLES.items()}
    assert table["encodings"] == ENCODINGS
    assert {field.name for field in store.fields} <= set(table["steps"])


def module_of(specification: Path) -> dict[str, Any]:
    """Run the code of a specification."""
    module: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", specification.read_text(), re.DOTALL):
        assert code.count("\n") <= 50
        exec(code, module)
    return module


def read_shard(path: Path) -> tuple[list[tuple[dict[str, Any], int, int, dict[str, np.ndarray]]], dict[str, Any]]:
    """Read a shard with the reader of the specification: its segments, and its tables."""
    reader = module_of(PUBLISHED / "SPEC.md")
    _, learners, tables = reader["read_hdf5" if path.suffix == ".h5" else "read_arrow"](path)
    return reader["segments"](learners, tables), tables


@pytest.mark.parametrize("way", WAYS)
def test_the_reader_of_the_specification_reads_what_was_written(tmp_path: Path, way: str) -> None:
    lived = life(num_steps=50, num_streams=2)
    with hs.StoreWriter(create(tmp_path / "s"), **WAYS[way]) as writer:
        record(writer, lived)
    (shard,) = (tmp_path / "s" / "shards").iterdir()
    segments, tables = read_shard(shard)
    assert [(row["learner"], stream, first) for row, stream, first, _ in segments] == [
        (lived.spec.id, stream, 0) for stream in range(2)
    ]
    for _, stream, _, arrays in segments:
        for name, values in lived.steps.items():
            assert arrays[name].dtype == values.dtype
            assert np.array_equal(arrays[name], values[:, stream])
    episodes, ends = tables["episodes"], tables["final_observations"]
    is_end = lived.steps["terminated"] | lived.steps["truncated"]
    assert int(np.count_nonzero(episodes["terminated"] | episodes["truncated"])) == is_end.sum()
    steps, streams = ends["step"].astype(int), ends["stream"].astype(int)
    goes_on = ~is_end[steps, streams]
    assert np.array_equal(ends["observation"][~goes_on], lived.following[steps, streams][~goes_on])
    assert tables["updates"]["values/train/loss"].tolist() == [0, 1]


def assert_same(left: np.ndarray, right: np.ndarray) -> None:
    assert np.array_equal(left, right, equal_nan=right.dtype.kind in "fc")


@pytest.mark.parametrize("shard", SHARDS, ids=lambda shard: f"{shard.parts[-4]}{shard.suffix}-{shard.stem[:4]}")
def test_the_reader_of_the_specification_agrees_with_ours_on_every_golden_shard(shard: Path) -> None:
    segments, tables = read_shard(shard)
    ours = read_tables(open_shard(shard))
    assert len(segments) == len(ours.segments["learner"])
    for table in ("steps", *TABLES):
        columns = getattr(ours, table)
        assert set(tables[table]) == set(columns)
        for name, column in columns.items():
            assert_same(tables[table][name], column)


@pytest.mark.parametrize("way", WAYS)
def test_it_reads_every_dtype_and_values_of_no_fixed_size(tmp_path: Path, way: str) -> None:
    observations = spaces.Dict(
        {
            "text/a": spaces.Text(4, min_length=0),
            "graph": spaces.Graph(spaces.Box(-1, 1, (2,)), None),
            "half": spaces.Box(-1, 1, (2, 3), np.float16),
            "flag": spaces.Box(0, 1, (), np.bool_),
            "none": spaces.Box(0, 1, (0, 2)),
        }
    )
    observations.seed(0)
    store = hs.create(tmp_path / "s", family="any", observation_space=observations, action_space=spaces.Discrete(2))
    rows = [flatten("observation", observations, each(observations.sample())) for _ in range(6)]
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    flags = np.zeros((5, 1), bool)
    steps = {name: column[:5, None] for name, column in columns.items()}
    steps |= {"action": flags.astype(int), "reward": flags.astype(float), "terminated": flags, "truncated": flags}
    steps["info/wave"] = np.exp(1j * np.arange(10)).reshape(5, 1, 2)
    with hs.StoreWriter(store, **WAYS[way]) as writer:
        learner = writer.begin(hs.LearnerSpec(family="any", algorithm="a", policy="p", num_streams=1, num_steps=5))
        learner.add_steps(
            steps,
            final_observations={name: column[:0] for name, column in columns.items()},
            next_observation={name: column[5:] for name, column in columns.items()},
        )
        learner.add_update(step=5, values={"train/a%b": 2.0, "..": 3.0}, learning_rate=None, wall_time_s=0)
    (shard,) = (tmp_path / "s" / "shards").iterdir()
    segments, tables = read_shard(shard)
    for name, values in steps.items():
        assert segments[0][3][name].dtype == values.dtype
        assert_same(segments[0][3][name], values[:, 0])
    for name, column in columns.items():
        assert_same(tables["final_observations"][name], column[5:])
    assert {name: column.item() for name, column in tables["updates"].items() if name.startswith("values/")} == {
        "values/train/a%b": 2.0,
        "values/..": 3.0,
    }


def each(value: dict[str, Any]) -> dict[str, Any]:
    """Return a batch of one value."""
    return {key: part[None] if isinstance(part, np.ndarray) else [part] for key, part in value.items()}


def test_the_reader_of_0_1_still_reads_its_shards() -> None:
    reader = module_of(RELEASED / "v0" / "SPEC.md")
    for shard in (GOLDEN / "0.1" / "grid" / "store" / "shards").iterdir():
        segments, *_ = reader["read_shard"](shard)
        ours = read_tables(open_shard(shard))
        for (_, _, _, arrays), offset, length in zip(
            segments, ours.segments["offset"], ours.segments["length"], strict=True
        ):
            for name, column in ours.steps.items():
                assert_same(arrays[name], column[offset : offset + length])


def test_a_released_folder_never_changes() -> None:
    """`sha256sum -c` understands the list; a new version gets a new folder and new lines."""
    listed = dict(line.split("  ")[::-1] for line in FROZEN.read_text().splitlines())
    found = {str(path.relative_to(RELEASED)): sha256(path.read_bytes()) for path in RELEASED.glob("*/*")}
    assert found == listed, "a released folder never changes: put what is new into the folder of a new version"


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_digest_taken_by_the_words_of_the_specification_is_the_learners(tmp_path: Path) -> None:
    with hs.StoreWriter(create(tmp_path / "s")) as writer:
        record(writer, life(num_steps=50, num_streams=2))
    (shard,) = (tmp_path / "s" / "shards").iterdir()
    segments, tables = read_shard(shard)
    episodes, ends, updates = (tables[name] for name in ("episodes", "final_observations", "updates"))
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
