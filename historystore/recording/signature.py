"""What an algorithm can be given: read from the source text where importing it would cost seconds."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from historystore.classic.settings import ENGINE as CLASSIC
from historystore.classic.settings import SETTINGS, Settings
from historystore.errors import InvalidValue, MissingExtra
from historystore.recording.algorithms import Algorithm
from historystore.recording.class_source import ClassSource, class_source, module_is_found

NOT_HYPERPARAMETERS = frozenset({"seed", "device", "verbose", "tensorboard_log", "stats_window_size"})
"""Arguments that are set elsewhere or change nothing that a learner does."""

_UNSET = object()
_EXTRAS = {"stable_baselines3": "stable-baselines3", "sb3_contrib": "'historystore[contrib]'"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One hyperparameter: the kinds of JSON value it takes (`int`, `float`, `bool`, ...) and its default."""

    name: str
    kinds: frozenset[str]
    default: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The hyperparameters and the policies of one algorithm, as the installed package has them."""

    algorithm: str
    parameters: dict[str, Parameter]
    policies: tuple[str, ...]


def signature(algorithm: Algorithm) -> Signature:
    """Read the constructor of an algorithm in the installed package, without importing it, or its settings here.

    A class without a constructor, or whose constructor takes `**kwargs`, takes what its base does too.

    Raises:
        MissingExtra: its package is not installed.
        InvalidValue: there is no such class.
    """
    if algorithm.engine == CLASSIC:
        return _settings_signature(algorithm.name, SETTINGS[algorithm.name])
    module = algorithm.module
    if not module_is_found(module):
        if module in _EXTRAS:
            raise MissingExtra(
                f"algo: {algorithm.name} needs a package that is not installed. Run pip install {_EXTRAS[module]}."
            )
        raise InvalidValue(f"algo: {algorithm.name} is in no module that can be found, got {module!r}. Check the path.")
    found = class_source(module, algorithm.class_name)
    if found is None:
        raise InvalidValue(f"algo: {module} has no class {algorithm.class_name}. Check the name.")
    lineage = list(found.lineage())
    return Signature(algorithm=algorithm.name, parameters=_parameters(lineage), policies=_policies(lineage))


def _settings_signature(algorithm: str, settings: type[Settings]) -> Signature:
    """Return what a model of settings takes, one kind a field."""
    parameters = {
        name: Parameter(name=name, kinds=_kinds_of_default(field.default), default=field.default)
        for name, field in settings.model_fields.items()
    }
    return Signature(algorithm=algorithm, parameters=parameters, policies=settings.policies)


def _kinds_of_default(value: Any) -> frozenset[str]:
    """Return what a setting takes: the kind of its default, or text where it is None."""
    return frozenset({"str", "None"} if value is None else {type(value).__name__})


def _parameters(lineage: Sequence[ClassSource]) -> dict[str, Parameter]:
    """Return the hyperparameters of the class that a lineage begins with, by name."""
    found: dict[str, Parameter] = {}
    for init in filter(None, (cls.init for cls in lineage)):
        found = {**_own_parameters(init.args), **found}
        if init.args.kwarg is None:
            break
    return found


def _own_parameters(arguments: ast.arguments) -> dict[str, Parameter]:
    """Return the arguments that have a JSON default and are hyperparameters, by name."""
    found = {}
    positional = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    with_default: list[tuple[ast.arg, ast.expr | None]] = list(zip(positional, arguments.defaults, strict=True))
    with_default += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    for argument, default in with_default:
        name, value = argument.arg, _literal(default)
        kinds = _kinds(argument.annotation) if argument.annotation else frozenset({type(value).__name__})
        is_settable = not name.startswith("_") and name not in NOT_HYPERPARAMETERS and not name.endswith("_class")
        if is_settable and value is not _UNSET and kinds:
            default_value = float(value) if type(value) is int and "float" in kinds else value
            found[name] = Parameter(name=name, kinds=kinds, default=default_value)
    return found


def _policies(lineage: Sequence[ClassSource]) -> tuple[str, ...]:
    """Return the names in the first `policy_aliases`."""
    for node in (node for cls in lineage for node in cls.node.body):
        match node:
            case (
                ast.AnnAssign(target=ast.Name(id="policy_aliases"), value=ast.Dict(keys=names))
                | ast.Assign(targets=[ast.Name(id="policy_aliases")], value=ast.Dict(keys=names))
            ):
                return tuple(ast.literal_eval(name) for name in names if name is not None)
    return ()


def _kinds(annotation: ast.expr | None) -> frozenset[str]:
    """Return the JSON kinds in an annotation such as `float | Schedule | None`, written either way."""
    kinds = {"int", "float", "bool", "str", "dict", "tuple", "None"}
    names = {node.id for node in _alternatives(annotation) if isinstance(node, ast.Name)}
    if "ActionNoise" in names:  # given as a number, the standard deviation of Gaussian noise
        names.add("float")
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


def _literal(node: ast.expr | None) -> Any:
    if node is None:  # a keyword argument without a default
        return _UNSET
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return _UNSET
    return value if value is None or isinstance(value, bool | int | float | str) else _UNSET
