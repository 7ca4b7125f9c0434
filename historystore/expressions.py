"""Conditions as text: parsed into a few kinds of node, each of which has its rule here. Nothing is run as Python.

The syntax is Python's: `and`, `or`, `not`, comparisons (chained ones too), `in`, `+ - * /`, numbers, text, True, False,
None, lists, names, and entries of JSON values as `task['goal'][0]` or `task.goal[0]`. A name is a value of the thing
that is judged. `table.column` is a column with many values; it is turned into one by `any`, `all`, `mean`, `min`, `max`
or `count`: `mean(episode.length) < 15 and any(episode.return > 5)`.

What is not known is None: an entry that is not there, the mean of nothing, a division by zero. Arithmetic with None is
None, and no comparison with it is true but `== None`, `!=` and `in`.
"""

from __future__ import annotations

import ast
import io
import operator
import tokenize
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from historystore.errors import InvalidValue

Tables: TypeAlias = Mapping[str, Mapping[str, np.ndarray]]
MAX_CHARACTERS = 10_000
MAX_DEPTH = 100
_RETURN = "rETURN"
"""What the column `return` is called while Python's parser, to which it is a keyword, looks at it; as long as that."""
_ARITHMETIC: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_ORDER: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_EQUALITY: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {ast.Eq: operator.eq, ast.NotEq: operator.ne}
_AGGREGATES: Mapping[str, Callable[[np.ndarray], Any]] = {
    "any": lambda values: bool(np.any(values)),
    "all": lambda values: bool(np.all(values)),
    "mean": lambda values: float(np.mean(values)) if values.size else None,
    "min": lambda values: values.min().item() if values.size else None,
    "max": lambda values: values.max().item() if values.size else None,
    "count": lambda values: int(values.sum()) if values.dtype.kind == "b" else int(values.size),
}
_PARTS: tuple[type[ast.AST], ...] = (
    *(ast.Constant, ast.List, ast.Tuple, ast.Subscript, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare),
    *(ast.And, ast.Or, ast.Not, ast.USub, ast.In, ast.NotIn, ast.Load),
    *(*_ARITHMETIC, *_ORDER, *_EQUALITY),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A condition that was parsed: what it names is known, and everything in it has a rule."""

    text: str
    tree: ast.expr
    names: frozenset[str]
    """The names of single values in it."""
    tables: frozenset[str]
    """The tables of which it names columns."""

    def holds(self, values: Mapping[str, Any], tables: Tables) -> bool:
        """Say whether the condition is true of something.

        Args:
            values: of each of `names`: a number, text, a flag, None, or a list or dict of such.
            tables: of each of `tables`: column name -> (rows,)

        Raises:
            InvalidValue: values are of kinds that do not fit, or the whole is neither true nor false.
        """
        answer = _Evaluation(self.text, values, tables).value(self.tree)
        if answer is not None and not isinstance(answer, bool):
            raise _problem(self.text, self.tree, f"is a {_kind(answer)}, expected true or false. Compare it with one")
        return bool(answer)


def parse_expression(
    text: str, *, names: Collection[str], tables: Mapping[str, Collection[str]] | None = None
) -> Expression:
    """Parse a condition.

    Args:
        text: the condition.
        names: what it may name.
        tables: name of a table -> its columns.

    Raises:
        InvalidValue: it is not in the language, or names something unknown; says at which character.
    """
    text = " ".join(text.split("\n")).strip()
    if len(text) > MAX_CHARACTERS:
        raise InvalidValue(f"where: has {len(text)} characters, expected at most {MAX_CHARACTERS}. Shorten it.")
    try:
        tree = ast.parse(_without_keyword(text), mode="eval").body
    except SyntaxError as error:
        raise InvalidValue(f"where: {error.msg} at character {error.offset or 1} of {text!r}. Correct it.") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise InvalidValue(f"where: cannot be parsed, {error or 'it is too deep'}. Simplify it.") from None
    check = _Check(text, names, tables or {})
    check.visit(tree, within=None)
    return Expression(text=text, tree=tree, names=frozenset(check.used), tables=frozenset(check.used_tables))


class _Check:
    """Walks a tree before anything is evaluated; refuses what has no rule and what nobody knows."""

    def __init__(self, text: str, names: Collection[str], tables: Mapping[str, Collection[str]]) -> None:
        self._text, self._names, self._tables = text, names, tables
        self._depth = 0
        self.used: set[str] = set()
        self.used_tables: set[str] = set()

    def visit(self, node: ast.AST, *, within: set[str] | None) -> None:
        """Check a node and all below it; `within` gathers the tables that the aggregate around it names."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _problem(self._text, node, f"is too deep, expected at most {MAX_DEPTH} levels. Simplify it")
        self._visit(node, within)
        self._depth -= 1

    def _visit(self, node: ast.AST, within: set[str] | None) -> None:
        if isinstance(node, ast.Call):
            self._visit_aggregate(node)
        elif (table := _table_of(node, self._tables)) is not None:
            self._visit_column(node, table, within)
        elif isinstance(node, ast.Attribute):
            self.visit(node.value, within=within)
        elif isinstance(node, ast.Name):
            self._visit_name(node)
        elif isinstance(node, _PARTS):
            self._visit_constant(node)
            for child in ast.iter_child_nodes(node):
                self.visit(child, within=within)
        else:
            what = f"{type(node).__name__} is not part of this language"
            raise _problem(self._text, node, f"{what}, expected comparisons of columns. Write it otherwise")

    def _visit_name(self, node: ast.Name) -> None:
        if node.id not in self._names:
            known = [*sorted(self._names), *(f"{table}.<column>" for table in self._tables)]
            what = f"no column is called {node.id!r}, expected one of {', '.join(known)}. Check the name"
            raise _problem(self._text, node, what)
        self.used.add(node.id)

    def _visit_column(self, node: ast.AST, table: str, within: set[str] | None) -> None:
        column = _attribute(node)
        if column not in self._tables[table]:
            known = ", ".join(sorted(self._tables[table]))
            what = f"{table} has no column {column!r}, expected one of {known}. Check the name"
            raise _problem(self._text, node, what)
        if within is None:
            what = f"{table}.{column} has many values, expected one. Write such as mean({table}.{column})"
            raise _problem(self._text, node, what)
        within.add(table)
        self.used_tables.add(table)

    def _visit_aggregate(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in _AGGREGATES or node.keywords or len(node.args) != 1 or isinstance(node.args[0], ast.Starred):
            what = f"no such call, expected one of {', '.join(_AGGREGATES)} with one value. Use one of those"
            raise _problem(self._text, node, what)
        within: set[str] = set()
        self.visit(node.args[0], within=within)
        if len(within) != 1:
            expected = " or ".join(f"columns of {table}" for table in self._tables) or "columns of a table"
            what = f"{name} is of {' and '.join(sorted(within)) or 'a single value'}, expected {expected}. Correct it"
            raise _problem(self._text, node, what)

    def _visit_constant(self, node: ast.AST) -> None:
        if isinstance(node, ast.Constant) and not isinstance(node.value, (bool, int, float, str, type(None))):
            raise _problem(self._text, node, f"is a {type(node.value).__name__}, expected a number or text. Change it")
        if isinstance(node, ast.Subscript) and not isinstance(node.slice, (ast.Constant, ast.UnaryOp)):
            raise _problem(self._text, node, "is no entry, expected such as task['goal'][0]. Name one entry")


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """The rules: what each kind of node is worth."""

    text: str
    values: Mapping[str, Any]
    tables: Tables

    def value(self, node: ast.expr) -> Any:
        """Return what a node is worth: one value, or an array of one a row within an aggregate."""
        match node:
            case ast.Constant():
                return node.value
            case ast.List() | ast.Tuple():
                return [self.value(item) for item in node.elts]
            case ast.Name():
                return self.values[node.id]
            case ast.Attribute():
                table = _table_of(node, self.tables)
                name = _attribute(node)
                return self.tables[table][name] if table is not None else _entry(self.value(node.value), name)
            case ast.Subscript():
                return _entry(self.value(node.value), self.value(node.slice))
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BinOp():
                return self._arithmetic(node, _ARITHMETIC[type(node.op)], self.value(node.left), self.value(node.right))
            case ast.BoolOp():
                return self._logic(node)
            case ast.Compare():
                return self._comparison(node)
            case ast.Call(func=ast.Name(id=name), args=[argument]):
                return self._aggregate(name, argument)
        raise AssertionError(f"{type(node).__name__} has no rule")

    def _unary(self, node: ast.UnaryOp) -> Any:
        operand = self.value(node.operand)
        if isinstance(node.op, ast.USub):
            return self._arithmetic(node, operator.sub, 0, operand)
        operand = self._truth(node.operand, operand)
        return ~operand if isinstance(operand, np.ndarray) else not operand

    def _arithmetic(self, node: ast.expr, function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
        for operand in (left, right):
            if operand is not None and not _is_number(operand):
                raise _problem(self.text, node, f"cannot calculate with a {_kind(operand)}, expected numbers. Change")
        if left is None or right is None:
            return None
        try:
            with np.errstate(all="ignore"):
                return function(left, right)
        except ArithmeticError:
            return None

    def _logic(self, node: ast.BoolOp) -> Any:
        is_and = isinstance(node.op, ast.And)
        answer: Any = is_and
        for each in node.values:
            value = self._truth(each, self.value(each))
            answer = answer & value if is_and else answer | value
            if isinstance(answer, bool) and answer != is_and:
                return answer
        return answer

    def _truth(self, node: ast.expr, value: Any) -> Any:
        if value is None:
            return False
        if isinstance(value, bool) or (isinstance(value, np.ndarray) and value.dtype.kind == "b"):
            return value
        raise _problem(self.text, node, f"is a {_kind(value)}, expected true or false. Compare it with one")

    def _comparison(self, node: ast.Compare) -> Any:
        answer: Any = True
        left = self.value(node.left)
        for op, each in zip(node.ops, node.comparators, strict=True):
            right = self.value(each)
            answer = answer & self._compared(each, op, left, right)
            if isinstance(answer, bool) and not answer:
                return answer
            left = right
        return answer

    def _compared(self, node: ast.expr, op: ast.cmpop, left: Any, right: Any) -> Any:
        if isinstance(op, (ast.In, ast.NotIn)):
            answer = self._contained(node, left, right)
            return answer if isinstance(op, ast.In) else (not answer if isinstance(answer, bool) else ~answer)
        rows = next((side.shape for side in (left, right) if isinstance(side, np.ndarray)), None)
        if type(op) in _EQUALITY:
            fits = rows is None or (_is_number(left) and _is_number(right))
            return _EQUALITY[type(op)](left, right) if fits else np.full(rows, isinstance(op, ast.NotEq))
        if left is None or right is None:
            return False if rows is None else np.zeros(rows, bool)
        if not (_is_number(left) and _is_number(right)) and not (isinstance(left, str) and isinstance(right, str)):
            what = f"cannot compare a {_kind(left)} with a {_kind(right)}, expected two numbers or texts. Change one"
            raise _problem(self.text, node, what)
        return _ORDER[type(op)](left, right)

    def _contained(self, node: ast.expr, left: Any, right: Any) -> Any:
        if right is None:
            return False
        if isinstance(left, np.ndarray) and isinstance(right, list):
            return np.isin(left, [item for item in right if _is_number(item)])
        if isinstance(right, (list, dict)) and not isinstance(left, np.ndarray):
            return left in list(right)
        if isinstance(right, str) and isinstance(left, str):
            return left in right
        what = f"cannot look for a {_kind(left)} in a {_kind(right)}, expected a list. Write such as algo in ['PPO']"
        raise _problem(self.text, node, what)

    def _aggregate(self, name: str, argument: ast.expr) -> Any:
        value = self.value(argument)
        if value is None:
            return None
        needs_truth = name in ("any", "all")
        return _AGGREGATES[name](np.asarray(self._truth(argument, value) if needs_truth else value))


def _entry(value: Any, key: Any) -> Any:
    """Return an entry of a JSON value; None where there is none."""
    if isinstance(value, dict):
        return value.get(key) if isinstance(key, str) else None
    if isinstance(value, list) and isinstance(key, int) and -len(value) <= key < len(value):
        return value[key]
    return None


def _table_of(node: ast.AST, tables: Collection[str]) -> str | None:
    """Return the table whose column a node names, if it is such a node."""
    is_column = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in tables
    return node.value.id if is_column else None  # type: ignore[attr-defined]


def _attribute(node: ast.AST) -> str:
    assert isinstance(node, ast.Attribute)
    return "return" if node.attr == _RETURN else node.attr


def _without_keyword(text: str) -> str:
    """Rename the column `return`; what is in quotes stays, and so does the place of every character."""
    before = ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.string == "return" and before == ".":
                start = token.start[1]
                text = text[:start] + _RETURN + text[start + len(_RETURN) :]
            before = token.string
    except (tokenize.TokenError, SyntaxError):
        pass  # the parser says it better
    return text


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) or (isinstance(value, np.ndarray) and value.dtype.kind in "biuf")


def _kind(value: Any) -> str:
    if _is_number(value):
        return "column" if isinstance(value, np.ndarray) else "flag" if isinstance(value, bool) else "number"
    return {str: "text", list: "list", dict: "JSON object", type(None): "None"}.get(type(value), type(value).__name__)


def _problem(text: str, node: ast.AST, what: str) -> InvalidValue:
    """Return an error with the place of a node, counted in characters from 1."""
    offset = getattr(node, "col_offset", 0)  # in bytes of UTF-8
    place = len(text.encode()[:offset].decode(errors="ignore")) + 1
    what, _, advice = what.rpartition(". ")
    return InvalidValue(f"where: {what}, at character {place} of {text!r}. {advice}.")
