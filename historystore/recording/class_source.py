"""A class as its source text has it: importing a learning library would cost seconds."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from historystore.errors import InvalidValue
from historystore.import_paths import make_reachable


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSource:
    """A class's definition and the module that it stands in."""

    module: str
    node: ast.ClassDef

    @property
    def init(self) -> ast.FunctionDef | None:
        """Its own constructor, if it defines one."""
        methods = (node for node in self.node.body if isinstance(node, ast.FunctionDef))
        return next((node for node in methods if node.name == "__init__"), None)

    def lineage(self) -> Iterator[ClassSource]:
        """Yield the class and those that it inherits from, depth first, each once, as far as their source is found."""
        waiting, seen = [self], set()
        while waiting:
            source = waiting.pop()
            if (place := (source.module, source.node.lineno)) not in seen:
                seen.add(place)
                yield source
                bases = (class_source(source.module, ast.unparse(base)) for base in source.node.bases)
                waiting += reversed(list(filter(None, bases)))


def class_source(module: str, name: str, *, passed: frozenset[tuple[str, str]] = frozenset()) -> ClassSource | None:
    """Find the class that `module.name` is, also where it is imported from elsewhere; None where there is none.

    `name` may have dots: `import torch as th` makes `th.nn.Module` one. `passed` are the places that sent us here.

    Raises:
        InvalidValue: a module on the way is no Python.
    """
    path = _file(module)
    if path is None or (module, name) in passed:
        return None
    passed |= {(module, name)}
    tree, (first, _, rest) = _parsed(path), name.partition(".")
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=defined) if defined == name:
                return ClassSource(module=module, node=node)
            case ast.ImportFrom(names=aliases):
                for alias in aliases:
                    if first == (alias.asname or alias.name):
                        source = _absolute(node, module=module, is_package=path.name == "__init__.py")
                        source = f"{source}.{alias.name}" if rest else source
                        return class_source(source, rest or alias.name, passed=passed)
            case ast.Import(names=aliases):
                for alias in aliases:
                    if alias.asname == first and rest:
                        return class_source(alias.name, rest, passed=passed)
                    if alias.asname is None and name.startswith(f"{alias.name}."):
                        return class_source(alias.name, name.removeprefix(f"{alias.name}."), passed=passed)
    return None


def module_is_found(module: str) -> bool:
    """Whether the module's source is there; the module is not imported."""
    return _file(module) is not None


def _file(module: str) -> Path | None:
    """Return a module's source file; only the outermost package is looked up as Python would, for that runs nothing."""
    make_reachable(module)
    root, *names = module.split(".")
    spec = importlib.util.find_spec(root)
    if spec is None:
        return None
    if not names:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder).joinpath(*names)
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None


def _absolute(node: ast.ImportFrom, *, module: str, is_package: bool) -> str:
    """Return the module that a `from ... import` reads, its leading dots resolved."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:  # bytes that are no text are a SyntaxError, null bytes may be either
        line = getattr(error, "lineno", None)
        where = f"{path}, line {line}" if line else f"{path}"
        raise InvalidValue(f"algo: {where}: is no Python, {getattr(error, 'msg', error)}. Correct it.") from None
