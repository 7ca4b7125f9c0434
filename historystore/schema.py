"""The published contract of the format: JSON Schemas of its documents, and its field table, from the models themselves.

`schemas/` holds what this module generates, beside a specification in prose; nothing reads that folder at run time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import JsonValue, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from historystore.checkpoints import CheckpointDocument
from historystore.documents import FORMAT_VERSION, LearnerRow, LearnerSpec, ShardHeader, StoreDocument
from historystore.fields import ENCODINGS, REQUIRED_FIELDS, STEP_FIELDS
from historystore.files import make_folder, replace_file
from historystore.shards.protocol import TABLES
from historystore.space_documents import SpaceDocument

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DOCUMENTS: dict[str, Any] = {
    "store": StoreDocument,
    "shard-header": ShardHeader,
    "learner": LearnerRow,
    "learner-spec": LearnerSpec,
    "checkpoint": CheckpointDocument,
    "space": SpaceDocument,
}
"""Name of a document -> its model, or the union of models that it may be."""


class _WrittenWhole(GenerateJsonSchema):
    """Every key is required, because a writer leaves none out: defaults are the code's, not the format's."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        return True


def folder_name() -> str:
    """Return where the files of this version lie in a folder of schemas: 1.0 in ``v1``, 1.1 would in ``v1.1``."""
    return f"history/v{FORMAT_VERSION.removesuffix('.0')}"


def schema_files() -> dict[str, bytes]:
    """Return every generated file by its name: one JSON Schema a document, and `fields.json`."""
    files = {f"{name}.schema.json": _text(_schema(name, model)) for name, model in DOCUMENTS.items()}
    return files | {"fields.json": _text(field_table())}


def field_table() -> dict[str, JsonValue]:
    """Return the standard step fields with their meanings, the columns of a shard's small tables, and encodings."""
    steps: dict[str, JsonValue] = {
        name: {"meaning": meaning, "is_required": name in REQUIRED_FIELDS} for name, meaning in STEP_FIELDS.items()
    }
    tables: dict[str, JsonValue] = {table: {**columns} for table, columns in TABLES.items()}
    encodings: dict[str, JsonValue] = {**ENCODINGS}
    return {"format_version": FORMAT_VERSION, "steps": steps, "tables": tables, "encodings": encodings}


def export_schemas(out: Path) -> list[Path]:
    """Write the generated files under a folder and return their paths.

    Raises:
        WriteFailed: the disk refused.
    """
    folder = out / folder_name()
    make_folder(folder)
    for name, data in schema_files().items():
        replace_file(folder / name, data)
    return [folder / name for name in schema_files()]


def _schema(name: str, model: Any) -> dict[str, JsonValue]:
    schema = TypeAdapter(model).json_schema(mode="serialization", schema_generator=_WrittenWhole)
    return {"$schema": DIALECT, "$id": f"urn:historystore:{FORMAT_VERSION}:{name}", **schema}


def _text(document: dict[str, JsonValue]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
