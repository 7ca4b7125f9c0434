"""Hyperparameters as a person gives them, checked against what the algorithm takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from historystore.errors import InvalidValue
from historystore.recording.signature import Parameter, Signature

_NAMES = {
    "int": "an integer",
    "float": "a finite number",
    "bool": "true or false",
    "str": "text",
    "dict": "a JSON object",
    "tuple": "a JSON list",
    "None": "null",
}


def resolve_hyperparameters(
    signature: Signature, preset: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Return every hyperparameter of the algorithm: its own default, the preset over it, the overrides over both.

    Two ways to write one value are one value (`1` for `1.0`, `1e5` for `100000`), so they name the same learner.

    Raises:
        InvalidValue: a name is not known, or a value is of a kind that the algorithm does not take.
    """
    resolved = {name: parameter.default for name, parameter in signature.parameters.items()}
    for name, value in {**preset, **overrides}.items():
        if name not in signature.parameters:
            raise InvalidValue(
                f"--set: {signature.algorithm} has no hyperparameter {name!r}, "
                f"expected one of {', '.join(sorted(signature.parameters))}. Check the name."
            )
        resolved[name] = _converted(signature.parameters[name], value, algorithm=signature.algorithm)
    return resolved


def parse_assignment(text: str, *, option: str = "--set") -> tuple[str, Any]:
    """Parse `name=value` as an option was given it, the value as JSON where it is JSON and as text otherwise.

    Raises:
        InvalidValue: there is no `=`, or no name before it.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        example = "size=13" if option == "--env-arg" else "learning_rate=1e-3"
        raise InvalidValue(f"{option}: expected name=value, got {text!r}. Write it like {option} {example}.")
    return name.strip(), _parsed(value.strip())


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def _converted(parameter: Parameter, value: Any, *, algorithm: str) -> Any:
    """Return the value as the kind that the algorithm takes; a whole float passes for an integer."""
    kinds = parameter.kinds
    match value:
        case None if "None" in kinds:
            return None
        case bool():
            if "bool" in kinds:
                return value
        case int() | float() if "float" in kinds and math.isfinite(value):
            return float(value)
        case int() if "int" in kinds:
            return value
        case float() if "int" in kinds and value.is_integer():
            return int(value)
        case str() if "str" in kinds:
            return value
        case dict() if "dict" in kinds:
            return value
        case list() if "tuple" in kinds:
            return value
    takes = " or ".join(_NAMES[kind] for kind in _NAMES if kind in kinds)
    raise InvalidValue(f"--set {parameter.name}: {algorithm} takes {takes}, got {json.dumps(value)}. Change the value.")
