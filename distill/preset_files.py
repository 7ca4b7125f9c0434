"""Named settings: one JSON file each in `presets/`, the paper's and the best that we know.

A file holds a `description` and the `values` that differ from `TrainConfig`'s defaults, under the names of
`hist train --set`. What the paper leaves open is marked [unstated] in the description.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from historystore.errors import InvalidValue

from .config import TrainConfig


class Preset(BaseModel):
    """Settings under a name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str
    values: dict[str, JsonValue]

    def config(self, values: Mapping[str, Any] | None = None) -> TrainConfig:
        """Return the configuration, with some values replaced; raises InvalidValue as `TrainConfig.with_values`."""
        return TrainConfig().with_values({**self.values, **(values or {})})


def presets() -> list[str]:
    """List the names of the presets, sorted."""
    names = (entry.name for entry in files("distill").joinpath("presets").iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        InvalidValue: there is none of that name.
    """
    if name not in presets():
        raise InvalidValue(f"preset: there is no {name!r}, expected one of {', '.join(presets())}. Choose one.")
    return Preset.model_validate_json(files("distill").joinpath("presets", f"{name}.json").read_text("utf-8"))
