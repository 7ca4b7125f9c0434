"""The `hist` command: one command a file, loaded only when it is called.

Installed as `hist_cli`; nothing imports it. Neither torch nor Stable-Baselines3 is loaded before a command needs it,
which `tests/test_cli_main.py` holds.
"""

from __future__ import annotations

import importlib
import keyword
import sys

import click

COMMANDS = {
    "record": "Record the full training histories of many learners into a store.",
    "inspect": "Browse stores, learners, tasks and single episodes.",
    "convert": "Write a store anew in another format.",
    "verify": "Check every promise of a store and list every problem.",
    "recover": "Save what can be read of a damaged store, and list what is lost.",
    "filter": "Keep the learners of a store that meet a condition.",
    "split": "Split a store by task, for training and testing.",
    "merge": "Make one store of several.",
    "compact": "Remove hidden steps from a store and join its small shards.",
    "diff": "Say where two stores differ.",
    "train": "Distill a store's histories into a transformer.",
    "evaluate": "Let a trained transformer learn in context on tasks it was never trained on.",
    "import": "Make learners of Minari, XLand or DICP data part of a store.",
    "export": "Write a store as Minari, Parquet, XLand or DICP data.",
    "export-model": "Write a learner's model as a Stable-Baselines3 zip file.",
    "migrate": "Bring a store to this version of the format.",
    "schema": "Export the published schema of the store's documents.",
}
"""Command name -> its line in `hist --help`.

The command itself lives in the module of the same name, with ``_`` for ``-``, and at its end where the name is a word
of Python's.
"""


class LazyGroup(click.Group):
    """A click group whose commands are imported when they are called, so that `hist --help` stays instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command; None for an unknown name, which click turns into a usage error."""
        if cmd_name not in COMMANDS:
            return None
        module = f"{cmd_name}_" if keyword.iskeyword(cmd_name) else cmd_name.replace("-", "_")
        command = importlib.import_module(f".{module}", __package__).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command list from the table, without importing a single command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="historystore", prog_name="hist")
def hist() -> None:
    """Record how RL learners learn, and distill it into one transformer that learns in context.

    \b
    A first walk:
      hist record --algo ppo --env darkroom --seeds 0-999     writes darkroom-ppo/
      hist inspect darkroom-ppo                               what is in it
      hist train darkroom-ppo --out run                       distill it
      hist evaluate run                                       watch it learn on unseen goals
    """


def main() -> None:
    """Run `hist`; a user's mistake becomes one line on stderr and exit code 1, here and nowhere else."""
    try:
        sys.exit(hist.main(standalone_mode=False))  # the code of `context.exit(code)`; commands return None
    except Exception as error:
        from .errors import exit_code_and_line  # loads historystore, which `hist --help` has no need of

        answer = exit_code_and_line(error)
        if answer is None:
            raise
        code, line = answer
        if line:
            click.echo(line, err=True)
        sys.exit(code)
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        sys.exit(130)
