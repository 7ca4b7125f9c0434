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
import tokenize
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from historystore.errors import InvalidValue
from historystore.expression_rules import (
    AGGREGATES,
    ARITHMETIC,
    EQUALITY,
    ORDER,
    RETURN,
    Evaluation,
    Tables,
    attribute,
    problem,
    table_of,
)

MAX_CHARACTERS = 10_000
MAX_DEPTH = 100
_OWNERS = (ast.Name, ast.Attribute, ast.Subscript)
"""What may have entries."""
_PARTS: tuple[type[ast.AST], ...] = (
    *(ast.Constant, ast.List, ast.Tuple, ast.Subscript, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare),
    *(ast.And, ast.Or, ast.Not, ast.USub, ast.In, ast.NotIn, ast.Load),
    *(*ARITHMETIC, *ORDER, *EQUALITY),
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
        evaluation = Evaluation(self.text, values, tables)
        return bool(evaluation.truth(self.tree, evaluation.value(self.tree)))


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
        raise InvalidValue(
            f"where: {error.msg} at character {error.offset or len(text) + 1} of {text!r}. Correct it."
        ) from None
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
            raise problem(self._text, node, f"is too deep, expected at most {MAX_DEPTH} levels. Simplify it")
        self._visit(node, within)
        self._depth -= 1

    def _visit(self, node: ast.AST, within: set[str] | None) -> None:
        if isinstance(node, ast.Call):
            self._visit_aggregate(node)
        elif (table := table_of(node, self._tables)) is not None:
            self._visit_column(node, table, within)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, _OWNERS):
            self.visit(node.value, within=within)
        elif isinstance(node, ast.Name):
            self._visit_name(node)
        elif isinstance(node, _PARTS):
            self._visit_constant(node)
            for child in ast.iter_child_nodes(node):
                self.visit(child, within=within)
        else:
            what = f"{type(node).__name__} is not part of this language"
            raise problem(self._text, node, f"{what}, expected comparisons of columns. Write it otherwise")

    def _visit_name(self, node: ast.Name) -> None:
        if node.id not in self._names:
            known = [*sorted(self._names), *(f"{table}.<column>" for table in self._tables)]
            what = f"no column is called {node.id!r}, expected one of {', '.join(known)}. Check the name"
            raise problem(self._text, node, what)
        self.used.add(node.id)

    def _visit_column(self, node: ast.AST, table: str, within: set[str] | None) -> None:
        column = attribute(node)
        if column not in self._tables[table]:
            known = ", ".join(sorted(self._tables[table]))
            what = f"{table} has no column {column!r}, expected one of {known}. Check the name"
            raise problem(self._text, node, what)
        if within is None:
            what = f"{table}.{column} has many values, expected one. Write such as mean({table}.{column})"
            raise problem(self._text, node, what)
        within.add(table)
        self.used_tables.add(table)

    def _visit_aggregate(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in AGGREGATES or node.keywords or len(node.args) != 1 or isinstance(node.args[0], ast.Starred):
            what = f"no such call, expected one of {', '.join(AGGREGATES)} with one value. Use one of those"
            raise problem(self._text, node, what)
        within: set[str] = set()
        self.visit(node.args[0], within=within)
        if len(within) != 1:
            expected = " or ".join(f"columns of {table}" for table in self._tables) or "columns of a table"
            what = f"{name} is of {' and '.join(sorted(within)) or 'a single value'}, expected {expected}. Correct it"
            raise problem(self._text, node, what)

    def _visit_constant(self, node: ast.AST) -> None:
        if isinstance(node, ast.Constant) and not isinstance(node.value, (bool, int, float, str, type(None))):
            raise problem(self._text, node, f"is a {type(node.value).__name__}, expected a number or text. Change it")
        if isinstance(node, ast.Subscript) and not (
            isinstance(node.value, _OWNERS) and isinstance(node.slice, (ast.Constant, ast.UnaryOp))
        ):
            raise problem(self._text, node, "is no entry, expected such as task['goal'][0]. Name one entry")


def _without_keyword(text: str) -> str:
    """Rename the column `return`; what is in quotes stays, and so does the place of every character."""
    before = ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.string == "return" and before == ".":
                start = token.start[1]
                text = text[:start] + RETURN + text[start + len(RETURN) :]
            before = token.string
    except (tokenize.TokenError, SyntaxError):
        pass  # the parser says it better
    return text
