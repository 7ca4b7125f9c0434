"""Which exceptions are a user's mistake, and the one line that each becomes."""

from __future__ import annotations

import click

from historystore.errors import HistoryError


def exit_code_and_line(error: Exception) -> tuple[int, str] | None:
    """Return the exit code and the line on stderr for a user's mistake, or None for a defect of ours.

    A command group called without a command is answered with its help page.
    """
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.exit_code, error.format_message()
    if isinstance(error, click.UsageError):
        hint = f" Try '{error.ctx.command_path} --help'." if error.ctx else ""
        return error.exit_code, f"Error: {error.format_message()}{hint}"
    if isinstance(error, click.ClickException):
        return error.exit_code, f"Error: {error.format_message()}"
    if isinstance(error, click.Abort):
        return 130, "Interrupted."
    if isinstance(error, BrokenPipeError):
        return 0, ""
    if isinstance(error, HistoryError):
        return 1, f"Error: {error}"
    if isinstance(error, OSError) and error.filename is not None and not isinstance(error, FileNotFoundError):
        reason = (error.strerror or str(error)).lower()
        return 1, f"Error: {error.filename}: {reason}. Check the path and who may use it."
    return None
