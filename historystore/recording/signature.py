"""What a Stable-Baselines3 algorithm can be given, read from its source text: importing it would cost seconds."""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from historystore.errors import InvalidValue, MissingExtra

NOT_HYPERPARAMETERS = frozenset({"seed", "device", "verbose", "tensorboard_log", "stats_window_size"})
"""Arguments that are set elsewhere or change nothing that a learner does."""

_UNSET = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One hyperparameter: the kinds of JSON value it takes (`int`, `float`, `bool`, ...) and its default."""

    name: str
    kinds: frozenset[str]
    default: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The hyperparameters and the policies of one algorithm, as the installed Stable-Baselines3 has them."""

    algorithm: str
    parameters: dict[str, Parameter]
    policies: tuple[str, ...]


def signature(algorithm: str) -> Signature:
    """Read the constructor of `algorithm` ("PPO") in the installed Stable-Baselines3, without importing it.

    Raises:
        MissingExtra: Stable-Baselines3 is not installed.
        InvalidValue: it has no such algorithm.
    """
    spec = importlib.util.find_spec("stable_baselines3")
    if spec is None or spec.origin is None:
        raise MissingExtra("recording: stable-baselines3 is not installed. Run pip install stable-baselines3.")
    source = Path(spec.origin).parent / algorithm.lower() / f"{algorithm.lower()}.py"
    if not source.is_file():
        raise InvalidValue(
            f"algo: the installed stable-baselines3 has no {algorithm}. Update it or choose another one."
        )
    tree = ast.parse(source.read_text(encoding="utf-8"))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == algorithm).body
    init = next(node for node in body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    return Signature(algorithm=algorithm, parameters=_parameters(init.args), policies=_policies(body))


def _parameters(arguments: ast.arguments) -> dict[str, Parameter]:
    """Return the arguments that have a JSON default and are hyperparameters, by name."""
    found = {}
    with_default = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    for argument, default in zip(with_default, arguments.defaults, strict=True):
        name, value, kinds = argument.arg, _literal(default), _kinds(argument.annotation)
        is_settable = not name.startswith("_") and name not in NOT_HYPERPARAMETERS and not name.endswith("_class")
        if is_settable and value is not _UNSET and kinds:
            default_value = float(value) if isinstance(value, int) and "float" in kinds else value
            found[name] = Parameter(name=name, kinds=kinds, default=default_value)
    return found


def _policies(body: list[ast.stmt]) -> tuple[str, ...]:
    """Return the names in the class's `policy_aliases`."""
    for node in body:
        match node:
            case ast.AnnAssign(target=ast.Name(id="policy_aliases"), value=ast.Dict(keys=names)):
                return tuple(ast.literal_eval(name) for name in names if name is not None)
    return ()


def _kinds(annotation: ast.expr | None) -> frozenset[str]:
    """Return the JSON kinds in an annotation such as `float | Schedule | None`, written either way."""
    kinds = {"int", "float", "bool", "str", "dict", "tuple", "None"}
    names = {node.id for node in _alternatives(annotation) if isinstance(node, ast.Name)}
    nones = {"None" for node in _alternatives(annotation) if isinstance(node, ast.Constant) and node.value is None}
    return frozenset((names | nones) & kinds)


def _alternatives(node: ast.expr | None) -> list[ast.expr]:
    """Return the members of a union; a generic counts as its origin (`dict[str, Any]` as `dict`)."""
    match node:
        case None:
            return []
        case ast.BinOp(left=left, right=right):
            return [*_alternatives(left), *_alternatives(right)]
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=members)):
            return [found for member in members for found in _alternatives(member)]
        case ast.Subscript(value=ast.Name(id="Optional"), slice=member):
            return [*_alternatives(member), ast.Constant(value=None)]
        case ast.Subscript(value=ast.Name(id=origin)):
            return [ast.Name(id=origin.lower())]
        case _:
            return [node]


def _literal(node: ast.expr) -> Any:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return _UNSET
    return value if value is None or isinstance(value, bool | int | float | str) else _UNSET
