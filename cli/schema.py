"""`hist schema`: the published contract of the store's documents."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def command() -> None:
    """Export the published schema of the store's documents."""


@command.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
def export(out: Path) -> None:
    """Write the JSON Schemas and the field table under OUT, and name each file.

    \b
    Example:
      hist schema export schemas
    """
    from historystore.schema import export_schemas

    for path in export_schemas(out):
        click.echo(str(path))
