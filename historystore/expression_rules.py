"""What each kind of node of a condition is worth; see `historystore.expressions` for the language."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from historystore.errors import InvalidValue

Tables: TypeAlias = Mapping[str, Mapping[str, np.ndarray]]
RETURN = "rETURN"
"""What the column `return` is called while Python's parser, to which it is a keyword, looks at it; as long as that."""
ARITHMETIC: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
ORDER: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
EQUALITY: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {ast.Eq: operator.eq, ast.NotEq: operator.ne}
AGGREGATES: Mapping[str, Callable[[np.ndarray], Any]] = {
    "any": lambda values: bool(np.any(values)),
    "all": lambda values: bool(np.all(values)),
    "mean": lambda values: float(np.mean(values)) if values.size else None,
    "min": lambda values: values.min().item() if values.size else None,
    "max": lambda values: values.max().item() if values.size else None,
    "count": lambda values: int(values.sum()) if values.dtype.kind == "b" else int(values.size),
}


@dataclass(frozen=True, slots=True)
class Evaluation:
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
                table = table_of(node, self.tables)
                name = attribute(node)
                return self.tables[table][name] if table is not None else _entry(self.value(node.value), name)
            case ast.Subscript():
                return _entry(self.value(node.value), self.value(node.slice))
            case ast.UnaryOp():
                return self._unary(node)
            case ast.BinOp():
                return self._arithmetic(node, ARITHMETIC[type(node.op)], self.value(node.left), self.value(node.right))
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
        operand = self.truth(node.operand, operand)
        return ~operand if isinstance(operand, np.ndarray) else not operand

    def _arithmetic(self, node: ast.expr, function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
        for operand in (left, right):
            if operand is not None and not _is_number(operand):
                raise problem(self.text, node, f"cannot calculate with a {_kind(operand)}, expected numbers. Change")
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
            value = self.truth(each, self.value(each))
            answer = answer & value if is_and else answer | value
            if isinstance(answer, bool) and answer != is_and:
                return answer
        return answer

    def truth(self, node: ast.expr, value: Any) -> Any:
        """Return a value that must be true or false; what is not known is false."""
        if value is None:
            return False
        if isinstance(value, bool) or (isinstance(value, np.ndarray) and value.dtype.kind == "b"):
            return value
        raise problem(self.text, node, f"is a {_kind(value)}, expected true or false. Compare it with one")

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
        if type(op) in EQUALITY:
            fits = rows is None or (_is_number(left) and _is_number(right))
            return EQUALITY[type(op)](left, right) if fits else np.full(rows, isinstance(op, ast.NotEq))
        if left is None or right is None:
            return False if rows is None else np.zeros(rows, bool)
        if not (_is_number(left) and _is_number(right)) and not (isinstance(left, str) and isinstance(right, str)):
            what = f"cannot compare a {_kind(left)} with a {_kind(right)}, expected two numbers or texts. Change one"
            raise problem(self.text, node, what)
        return ORDER[type(op)](left, right)

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
        raise problem(self.text, node, what)

    def _aggregate(self, name: str, argument: ast.expr) -> Any:
        value = self.value(argument)
        if value is None:
            return None
        needs_truth = name in ("any", "all")
        return AGGREGATES[name](np.asarray(self.truth(argument, value) if needs_truth else value))


def _entry(value: Any, key: Any) -> Any:
    """Return an entry of a JSON value; None where there is none."""
    if isinstance(value, dict):
        return value.get(key) if isinstance(key, str) else None
    if isinstance(value, list) and isinstance(key, int) and -len(value) <= key < len(value):
        return value[key]
    return None


def table_of(node: ast.AST, tables: Collection[str]) -> str | None:
    """Return the table whose column a node names, if it is such a node."""
    is_column = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in tables
    return node.value.id if is_column else None  # type: ignore[attr-defined]


def attribute(node: ast.AST) -> str:
    """Return the name behind the dot of such a node."""
    assert isinstance(node, ast.Attribute)
    return "return" if node.attr == RETURN else node.attr


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) or (isinstance(value, np.ndarray) and value.dtype.kind in "biuf")


def _kind(value: Any) -> str:
    if _is_number(value):
        return "column" if isinstance(value, np.ndarray) else "flag" if isinstance(value, bool) else "number"
    return {str: "text", list: "list", dict: "JSON object", type(None): "None"}.get(type(value), type(value).__name__)


def problem(text: str, node: ast.AST, what: str) -> InvalidValue:
    """Return an error with the place of a node, counted in characters from 1."""
    offset = getattr(node, "col_offset", 0)  # in bytes of UTF-8
    place = len(text.encode()[:offset].decode(errors="ignore")) + 1
    what, _, advice = what.rpartition(". ")
    return InvalidValue(f"where: {what}, at character {place} of {text!r}. {advice}.")
