"""A run's folder: what a training leaves behind, enough to evaluate it anywhere without the store.

::

    run.json                what was distilled: family, spaces, split of tasks, stores and their digests, versions
    config.json             every setting (`TrainConfig`)
    reference.safetensors   the source's learning curves, best and random returns, by task
    model.safetensors       weights; the metadata says after how many updates, and the SHA-256 of it all
    checkpoint.safetensors  what a killed training goes on from; gone when the training is complete
    metrics.jsonl           a line for each update and each validation; the same scalars lie in tensorboard/
    evaluation-*.json, .png what `hist evaluate` found
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, JsonValue, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from historystore.documents import Document, canonical_json
from historystore.errors import DamagedData, InvalidValue, NewerFormat, NotAStore, StoreNotFound
from historystore.files import make_folder, replace_file
from historystore.spaces import space_from_json
from historystore.splits import Split

from .config import TrainConfig
from .model import DistilledAgent
from .references import References

FORMAT: Literal["historystore-run"] = "historystore-run"
FORMAT_VERSION: Literal["0.1"] = "0.1"
_DIGEST = "sha256"
"""The metadata that holds the digest of the rest of a safetensors file."""


class DistilledStore(Document):
    """A store that a run was distilled from."""

    id: str
    digest: str


class RunDocument(Document):
    """`run.json`: everything about a run but its settings and weights."""

    format: Literal["historystore-run"] = FORMAT
    format_version: Literal["0.1"] = FORMAT_VERSION
    family: str
    family_version: int | None
    """None where the family is not one of this package's."""
    family_args: dict[str, JsonValue] | None = Field(default_factory=dict)
    """The family's arguments that the stores were recorded with; None where learners differ in them."""
    observation_space: dict[str, JsonValue]
    action_space: dict[str, JsonValue]
    stores: tuple[DistilledStore, ...]
    split: Split
    versions: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run read from its folder."""

    path: Path
    document: RunDocument
    config: TrainConfig
    references: References
    num_updates: int
    """Updates behind the weights: fewer than `config.updates` where the training is not complete."""

    @property
    def is_complete(self) -> bool:
        """Whether the training ran to its end."""
        return self.num_updates >= self.config.updates

    def load_agent(self, *, device: str = "cpu") -> DistilledAgent:
        """Load the trained transformer, ready to act.

        Raises:
            DamagedData: the weights are missing, damaged or of another shape.
            InvalidValue: there is no such device here.
        """
        agent = new_agent(self.document, self.config)
        tensors, _ = read_tensors(self.path / "model.safetensors")
        try:
            agent.load_state_dict(tensors)
        except RuntimeError as error:
            raise DamagedData(
                f"{self.path / 'model.safetensors'}: does not fit config.json, {error}. Train the run again."
            ) from error
        try:
            return agent.to(device).eval()
        except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without the device
            reason = str(error).partition("\n")[0].rstrip(".")
            raise InvalidValue(f"device: cannot use {device!r}, {reason}. Leave it out, or name another.") from error


def new_agent(document: RunDocument, config: TrainConfig) -> DistilledAgent:
    """Make a run's transformer with fresh weights, drawn from torch's global generator."""
    return DistilledAgent(
        config.model,
        context_length=config.context_length,
        observation_space=space_from_json(document.observation_space),
        action_space=space_from_json(document.action_space),
    )


def load_run(path: str | os.PathLike[str]) -> Run:
    """Read a run's folder; its weights are read by `Run.load_agent`.

    Raises:
        StoreNotFound: nothing is there.
        NotAStore: what is there is no run.
        NewerFormat: a run of another version of the format.
        DamagedData: a file of the run is damaged.
    """
    path = Path(path)
    document = read_document(path)
    if document is None:
        raise NotAStore(f"{path}: is no run, it has no run.json. Give the --out of a hist train.")
    weights = path / "model.safetensors"
    if not weights.exists():
        raise NotAStore(f"{path}: the run has no weights yet. Let hist train reach its first checkpoint.")
    return Run(
        path=path,
        document=document,
        config=read_config(path),
        references=References.read(path / "reference.safetensors"),
        num_updates=int(read_metadata(weights)["update"]),
    )


def read_document(path: Path) -> RunDocument | None:
    """Read a folder's run.json; None where it has none."""
    if not path.exists():
        raise StoreNotFound(f"{path}: no such directory. Check the path, or train a run with hist train.")
    if not (path / "run.json").is_file():
        return None
    payload = _read_json(path / "run.json")
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise NotAStore(f"{path}: is no run, its run.json says {str(payload)[:60]!r}. Give the --out of a hist train.")
    if payload.get("format_version") != FORMAT_VERSION:
        raise NewerFormat(
            f"{path}: is a run in format {payload.get('format_version')}, this version reads {FORMAT_VERSION}. "
            "Train it again, or install the version that wrote it."
        )
    try:
        return RunDocument.model_validate(payload)
    except ValidationError as error:
        raise DamagedData(
            f"{path / 'run.json'}: is damaged, {error.errors()[0]['msg']}. Train the run again."
        ) from error


def read_config(path: Path) -> TrainConfig:
    """Read a run's config.json."""
    try:
        return TrainConfig.model_validate(_read_json(path / "config.json"))
    except (ValidationError, FileNotFoundError) as error:
        raise DamagedData(f"{path / 'config.json'}: is missing or damaged. Train the run again.") from error


def begin_run(path: Path, document: RunDocument, config: TrainConfig, references: References) -> None:
    """Make a run's folder, or check that the one that is there is of the same run.

    Raises:
        InvalidValue: the folder holds something else, or a run of other settings or stores.
    """
    make_folder(path)
    present = read_document(path)
    if present is None and any(path.iterdir()):
        raise InvalidValue(f"{path}: is no run and not empty. Choose another --out.")
    if present is not None and _identity(present) != _identity(document):
        raise InvalidValue(f"{path}: holds a run of other data (family, stores or split). Choose another --out.")
    if present is not None and (path / "config.json").exists():
        _check_same(path, read_config(path), config)
    if present is None:
        replace_file(path / "run.json", document.model_dump_json(indent=2).encode())
    if not (path / "config.json").exists():
        replace_file(path / "config.json", config.model_dump_json(indent=2).encode())
    if not (path / "reference.safetensors").exists():
        references.write(path / "reference.safetensors")


def _identity(document: RunDocument) -> bytes:
    return canonical_json(document.model_dump(mode="json", exclude={"versions", "format_version"}))


def _check_same(path: Path, old: TrainConfig, new: TrainConfig) -> None:
    before, after = flat_settings(old), flat_settings(new)
    changed = [f"{name} {before[name]!r}, now {after[name]!r}" for name in before if before[name] != after[name]]
    if changed:
        raise InvalidValue(
            f"{path}: holds a run of other settings ({'; '.join(changed)}). Choose another --out, or the same settings."
        )


def flat_settings(config: TrainConfig) -> dict[str, JsonValue]:
    """Return every setting by name, the model's among them."""
    document = config.model_dump(mode="json")
    model = document.pop("model")
    return {**document, **model}


def library_versions() -> dict[str, str]:
    """Return the versions that a run's weights may depend on."""
    names = ("historystore", "torch", "accelerate", "numpy", "gymnasium", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Put a safetensors file in place, whole, with a digest of what is in it."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    replace_file(path, save(tensors, metadata={**metadata, _DIGEST: _digest(tensors, metadata)}))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read a safetensors file and its metadata, and hold them against their digest; older files have none.

    Raises:
        DamagedData: the file cannot be read, or does not hold what was written to it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DamagedData(f"{path}: cannot be read, {error}. Train the run again.") from error
    digest = metadata.pop(_DIGEST, None)
    if digest is not None and digest != _digest(tensors, metadata):
        raise DamagedData(
            f"{path}: does not hold what was written to it. Restore the file from a copy, or train the run again."
        )
    return tensors, metadata


def _digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of the metadata, and of every tensor by name, with its dtype and shape."""
    found = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name}/{tensor.dtype}/{tuple(tensor.shape)}/".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)  # (bytes,)
    return found.hexdigest()


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file, without its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DamagedData(f"{path}: cannot be read, {error}. Train the run again.") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise DamagedData(f"{path}: is not valid JSON, {error}. Train the run again.") from error
