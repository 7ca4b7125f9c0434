"""`hist inspect`: from the stores in a folder down to one episode's steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output import answers, print_json
from .places import STORE

if TYPE_CHECKING:
    from pydantic import BaseModel

MAX_WIDTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which part of a store to look at."""

    task: str | None
    learner: str | None
    episode: int | None
    stream: int | None


WHOLE = Selection(task=None, learner=None, episode=None, stream=None)


@click.command()
@click.argument("store", required=False, type=STORE)
@click.option("--task", metavar="TASK", help="One task and its learners: 'goal=[3,4]', or its index.")
@click.option("--learner", metavar="ID", help="One learner, by the beginning of its id, or as seed=7.")
@click.option("--episode", type=int, metavar="N", help="One episode of that learner; -1 is the last.")
@click.option("--stream", type=int, metavar="N", help="The learner's stream that --episode counts in (default: 0).")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also draw the learning curve: .png, .pdf ...",
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON and nothing else.")
def command(
    store: Path | str | None,
    *,
    task: str | None,
    learner: str | None,
    episode: int | None,
    stream: int | None,
    plot: Path | None,
    is_json: bool,
) -> None:
    """Browse stores, learners, tasks and single episodes.

    Without STORE, or on a folder that is none, lists the stores there. Each view ends with the command of the next.
    Nothing is written to a store, unless its index is out of date.

    \b
    Examples:
      hist inspect
      hist inspect darkroom-ppo
      hist inspect s3://bucket/darkroom-ppo
      hist inspect darkroom-ppo --task 'goal=[3,4]'
      hist inspect darkroom-ppo --learner 4fe1 --episode -1
    """
    selection = Selection(task=task, learner=learner, episode=episode, stream=stream)
    _refuse_misfits(store, selection, plot=plot)
    place = store or Path()
    is_part = plot is not None or selection != WHOLE
    document = None if is_part else _stores(place, is_asked=store is not None)
    if document is None:
        document = _summary(place, selection)
    if plot is not None:
        from .plot import save_curve

        save_curve(plot, document)
    if is_json:
        print_json(document)
        return
    from .views import view

    console = answers()
    console.width = min(console.width, MAX_WIDTH)
    console.print(view(document, place))


def _refuse_misfits(store: Path | str | None, selection: Selection, *, plot: Path | None) -> None:
    if store is None and (plot or selection != WHOLE):
        raise click.UsageError("Name the store: hist inspect STORE ...")
    if selection.task is not None and selection.learner is not None:
        raise click.UsageError("--task and --learner are two views, give one of them.")
    if selection.episode is not None and selection.learner is None:
        raise click.UsageError("--episode needs --learner.")
    if selection.stream is not None and selection.episode is None:
        raise click.UsageError("--stream needs --learner and --episode.")
    if selection.episode is not None and plot is not None:
        raise click.UsageError("--plot draws the curve of a store, a task or a learner, not of one episode.")


def _stores(where: Path | str, *, is_asked: bool) -> BaseModel | None:
    """List the stores in a folder; None when the place is itself a store, or cannot be but is to be refused as one."""
    from historystore.folder import DOCUMENT
    from historystore.places import place_of
    from historystore.summary import StoreList, store_list

    place = place_of(where)
    if place.kind() != "folder" or place.exists(DOCUMENT):
        return None
    stores: StoreList = store_list(where)
    return None if is_asked and not stores.stores else stores


def _summary(place: Path | str, selection: Selection) -> BaseModel:
    from historystore.episode_summary import episode_summary
    from historystore.learner_summary import learner_summary, parse_task, task_summary
    from historystore.store import open as open_store
    from historystore.summary import store_summary

    store = open_store(place)
    if selection.task is not None:
        return task_summary(store, parse_task(selection.task))
    if selection.learner is None:
        return store_summary(store)
    learner = store.learner(selection.learner)
    if selection.episode is None:
        return learner_summary(store, learner)
    return episode_summary(store, learner, episode=selection.episode, stream=selection.stream or 0)
