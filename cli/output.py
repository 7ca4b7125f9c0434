"""Where a command's output goes: answers to stdout, progress to stderr."""

from __future__ import annotations

import json

import click
from pydantic import BaseModel, JsonValue
from rich.console import Console


def print_json(document: BaseModel | JsonValue) -> None:
    """Print one JSON document and nothing else to stdout; a number that is not finite is null in a model."""
    if isinstance(document, BaseModel):
        click.echo(document.model_dump_json(indent=2, by_alias=True))
    else:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def answers() -> Console:
    """Return the console for tables and text on stdout; plain when it is not a terminal."""
    return Console(highlight=False)


def progress_console() -> Console:
    """Return the console for progress and notes on stderr."""
    return Console(stderr=True, highlight=False)
