"""The JSON documents of the format, as frozen models.

They are written as canonical JSON, so that equal documents are equal bytes and have equal digests.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, WithJsonSchema

from historystore.errors import DamagedData, InvalidValue, NewerFormat
from historystore.fields import Field
from historystore.space_documents import SpaceJson

FORMAT: Literal["historystore"] = "historystore"
FORMAT_VERSION = "1.0"
READER_FEATURES: frozenset[str] = frozenset()
WRITER_FEATURES: frozenset[str] = frozenset()

Status = Literal["partial", "complete", "failed"]
Count = Annotated[int, Ge(0)]
Sha256 = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{64}$"})]
ShardName = Annotated[str, WithJsonSchema({"type": "string", "pattern": r"^[0-9a-f]{64}\.(h5|arrow)$"})]
Version = Annotated[
    str, WithJsonSchema({"type": "string", "pattern": rf"^{FORMAT_VERSION.partition('.')[0]}\.(0|[1-9][0-9]*)$"})
]
"""Texts whose form the published schemas state; who reads one compares it with what it is the digest, name or version
of."""
DocumentT = TypeVar("DocumentT", bound="Document")


def canonical_json(obj: Any) -> bytes:
    """Return the one JSON text of a value: keys sorted, no spaces, UTF-8, no NaN or infinity."""
    if isinstance(obj, BaseModel):
        obj = obj.model_dump(mode="json")
    try:
        text = json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"document: cannot be written as JSON, {error}. Use finite numbers, text, lists.") from None


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


class Document(BaseModel):
    """A frozen document; unknown keys are refused, so that a misspelt one is never lost in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LearnerSpec(Document):
    """What defines a learner: everything its histories are a function of, apart from versions and hardware."""

    family: str
    env_args: dict[str, JsonValue] = {}
    task: dict[str, JsonValue] = {}
    algorithm: str
    policy: str
    hyperparameters: dict[str, JsonValue] = {}
    num_streams: Annotated[int, Ge(1)]
    num_steps: Count
    """Environment steps asked for, over all streams."""
    seed: int | None = None

    @property
    def id(self) -> str:
        """The learner's id: the digest of this specification."""
        return sha256_hex(canonical_json(self))


class Provenance(Document):
    """Where a learner's histories come from; no digest depends on it."""

    engine: str
    engine_version: str
    algorithm_path: str
    environment: str
    versions: dict[str, str] = {}
    git_commit: str | None = None
    host: str
    best_return: float | None = None
    """Expected return of an optimal policy on this learner's task, where its family knows it."""
    random_return: float | None = None
    """Expected return of uniformly random actions on this learner's task, where its family knows it."""


class Continuation(Document):
    """The attempt that another one continues, and the per-stream step from which the new one takes over."""

    attempt: str
    step: Count


class LearnerRow(Document):
    """One attempt at a learner, as of one seal."""

    learner: Sha256
    spec: LearnerSpec
    attempt: str
    sequence: Count
    continues: Continuation | None = None
    provenance: Provenance
    status: Status
    error: str | None = None
    num_steps: tuple[int, ...]
    """Steps of each stream, from the history's first on, sealed so far."""
    num_updates: Count
    digest: Sha256
    """The learner's digest over everything up to `num_steps`."""
    started: str
    ended: str | None = None
    checkpoint: Sha256 | None = None


class StoreDocument(Document):
    """`store.json`: what all shards of a store share."""

    format: Literal["historystore"] = FORMAT
    format_version: Version = FORMAT_VERSION
    reader_features: tuple[str, ...] = ()
    writer_features: tuple[str, ...] = ()
    id: str
    family: str
    observation_space: SpaceJson
    action_space: SpaceJson
    digest: Sha256
    """SHA-256 of the canonical JSON of all the other keys."""


class TableShape(Document):
    """How many rows one of a shard's small tables has, and which columns."""

    num_rows: Count
    columns: tuple[str, ...]


class ShardHeader(Document):
    """What a shard says about itself, so that it can be read alone."""

    format: Literal["historystore"] = FORMAT
    format_version: Version = FORMAT_VERSION
    reader_features: tuple[str, ...] = ()
    writer_features: tuple[str, ...] = ()
    store: StoreDocument
    fields: tuple[Field, ...]
    num_steps: Count
    tables: dict[str, TableShape]
    """The small tables by name."""
    replaces: tuple[ShardName, ...] = ()
    """Shards that are invisible because of this one."""


def signed(payload: dict[str, Any]) -> dict[str, Any]:
    """Return a document's keys with its own digest added."""
    return {**payload, "digest": sha256_hex(canonical_json(payload))}


def is_signed(payload: dict[str, Any]) -> bool:
    """Whether a document's digest is the digest of its other keys."""
    rest = {key: value for key, value in payload.items() if key != "digest"}
    return payload.get("digest") == sha256_hex(canonical_json(rest))


def parse_document(model: type[DocumentT], data: bytes, *, where: str) -> DocumentT:
    """Parse a versioned document: a later major is refused, a later minor's unknown keys are left out."""
    payload = parse_json(data, where=where)
    if not isinstance(payload, dict) or payload.get("format", FORMAT) != FORMAT:
        raise DamagedData(f"{where}: is no {FORMAT} document. Run hist verify; restore the file from a copy.")
    check_version(payload, where=where)
    return validated(model, payload, where=where, is_lenient=is_newer(payload))


def parse_json(data: bytes, *, where: str) -> Any:
    """Parse JSON that must be whole."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedData(f"{where}: is not valid JSON, {error}. Restore the file from a copy.") from None


def check_version(payload: dict[str, Any], *, where: str) -> None:
    """Refuse a document that only a later version of this package can read."""
    version = payload.get("format_version")
    if not isinstance(version, str) or _version(version) is None:
        raise DamagedData(f"{where}: format_version is not a version, got {version!r}. Restore the file from a copy.")
    if _major(version) > _major(FORMAT_VERSION):
        raise NewerFormat(
            f"{where}: is written in format {version}, this version reads up to {_major(FORMAT_VERSION)}.x. "
            "Install a newer one: pip install --upgrade historystore"
        )
    features = payload.get("reader_features", [])
    if not isinstance(features, list) or not all(isinstance(feature, str) for feature in features):
        raise DamagedData(f"{where}: reader_features is no list of names, got {features!r}. Restore it from a copy.")
    unknown = sorted(set(features) - READER_FEATURES)
    if unknown:
        raise NewerFormat(
            f"{where}: needs the reader features {', '.join(unknown)}, which this version lacks. "
            "Install a newer one: pip install --upgrade historystore"
        )


def is_newer(payload: dict[str, Any]) -> bool:
    """Whether a document is of a later version of the format than this package writes."""
    version, ours = _version(payload["format_version"]), _version(FORMAT_VERSION)
    return version is not None and ours is not None and version > ours


def is_of_older_major(version: str) -> bool:
    """Whether a version of the format can still be read, but is not added to."""
    return _major(version) < _major(FORMAT_VERSION)


def validated(model: type[DocumentT], payload: Any, *, where: str, is_lenient: bool = False) -> DocumentT:
    """Return a payload as its model; leniently, keys that the model does not know are left out."""
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        problems = error.errors()
        if is_lenient and all(problem["type"] == "extra_forbidden" for problem in problems):
            return model.model_validate(_without(payload, [problem["loc"] for problem in problems]))
        place = ".".join(map(str, problems[0]["loc"])) or model.__name__
        raise DamagedData(f"{where}: {place} is not valid, {problems[0]['msg']}. Run hist verify.") from None


def _without(payload: Any, places: list[tuple[int | str, ...]]) -> Any:
    """Return a deep copy of a JSON value without the keys at some places."""
    copy = json.loads(json.dumps(payload))
    for place in places:
        parent = copy
        for key in place[:-1]:
            parent = parent[key]
        del parent[place[-1]]
    return copy


def _version(text: str) -> tuple[int, int] | None:
    parts = text.split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(part.isdecimal() for part in parts) else None


def _major(text: str) -> int:
    return int(text.split(".")[0])
