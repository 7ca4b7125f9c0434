"""Minari datasets (Farama Foundation), written: an episode of a history is an episode of the dataset.

What Minari has a place for lies there: an episode's seed in its metadata, optional step fields in ``infos``, by the
parts of their names. What it has none for is metadata that other readers pass over: of each episode its learner,
stream, first step and whether it was cut; of the dataset every learner's row; and all updates in a Parquet file beside
the data. `minari_import` makes of them the learners that they were, digests included.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from historystore.documents import LearnerRow
from historystore.errors import InvalidValue, MissingExtra
from historystore.exchange.protocol import Exporter, Moved
from historystore.exchange.spans import iter_episodes, num_told
from historystore.fields import REQUIRED_FIELDS, unflatten
from historystore.histories import History
from historystore.learners import Learner
from historystore.store import Store
from historystore.tables import EpisodeTable

DATA = "data"
UPDATES = "historystore-updates.parquet"
METADATA = "historystore"
LEARNER, STREAM, FIRST_STEP, IS_CUT = "learner", "stream", "first_step", "is_cut"
"""An episode's metadata."""
_ID = re.compile(r"[-_\w]+-v\d+")


def write_minari(store: Store, place: Path) -> Iterator[Moved]:
    """Write every visible learner into a new dataset, named as its folder.

    Raises:
        InvalidValue: the folder's name is no dataset id, or Minari has no place for a field or space.
        MissingExtra: Minari is not installed.
    """
    storage = _new_storage(store, place)
    number = 0
    for learner in store.learners:
        for history in learner.histories:
            for episodes in iter_episodes(history):
                storage.update_episodes(_iter_buffers(history, episodes))
                storage.update_episode_metadata(_metadata(history, episodes), range(number, number + len(episodes)))
                number += len(episodes)
                yield Moved(num_steps=int(episodes.length.sum()))
        yield Moved(num_learners=1, notes=_notes(learner))
    pq.write_table(_updates(store), storage.data_path / UPDATES)
    learners = [_row(learner).model_dump(mode="json") for learner in store.learners]
    storage.update_metadata({METADATA: {"store": store.document.model_dump(mode="json"), "learners": learners}})


EXPORTER = Exporter(
    write=write_minari,
    lost=(
        "histories: a dataset is episodes; learner, stream and first_step are episode metadata, to put them in order",
        "an episode that only the end of the recording cut is truncated, as Minari's recorder marks it; is_cut says so",
        "learners and updates: kept as metadata that Minari's readers pass over, and its combine_datasets drops",
        "environments: one dataset has many tasks, so that recover_environment has none to make",
        "hidden attempts and checkpoints stay behind; an attempt continued from another becomes one",
        "Sequence, Graph and OneOf spaces (refused)",
    ),
)


def required_minari() -> Any:
    """Return the minari package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import minari
    except ImportError:
        raise MissingExtra("minari: is not installed. Run pip install 'historystore[exchange]'.") from None
    return minari


def _new_storage(store: Store, place: Path) -> Any:
    if not _ID.fullmatch(place.name):
        raise InvalidValue(
            f"{place.name}: is no id of a Minari dataset, expected a name such as {_example(place)}. Rename it."
        )
    minari = required_minari()
    from minari.dataset.minari_storage import MinariStorage

    _check_spaces(store)
    place.mkdir()
    with _no_advice():
        storage = MinariStorage.new(
            place / DATA,
            observation_space=store.observation_space,
            action_space=store.action_space,
            jpeg_encoding=False,
        )
    algorithms = sorted({learner.spec.algorithm for learner in store.learners})
    storage.update_metadata(
        {
            "dataset_id": place.name,
            "minari_version": minari.__version__,
            "algorithm_name": ", ".join(algorithms),
            "description": f"Training histories of {len(store.learners)} learners on {store.document.family}",
        }
    )
    return storage


def _check_spaces(store: Store) -> None:
    """Refuse what Minari could not write, or not read back."""
    strange = [field.name for field in store.fields if _has_slash(field.name)]
    strange += [str(space) for space in (store.observation_space, store.action_space) if not _is_known(space)]
    if strange:
        raise InvalidValue(f"{store.place}: Minari has no place for {', '.join(strange)}. Export to parquet.")


def _is_known(space: gym.Space[Any]) -> bool:
    """Whether Minari can describe a space."""
    from minari.serialization import serialize_space

    try:
        serialize_space(space)
    except NotImplementedError:
        return False
    return True


def _has_slash(field: str) -> bool:
    """Whether a part of a space is called such that Minari would write it where it does not look for it."""
    return field.partition("/")[0] in ("observation", "action") and "%2F" in field


def _example(place: Path) -> str:
    return f"{re.sub(r'[^-_a-zA-Z0-9]', '-', place.name) or 'dataset'}-v0"


@contextlib.contextmanager
def _no_advice() -> Iterator[None]:
    """Keep back what Minari advises people who publish a dataset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _iter_buffers(history: History, episodes: EpisodeTable) -> Iterator[Any]:
    """Give consecutive episodes of a history as Minari's buffers."""
    from minari.data_collector import EpisodeBuffer

    store, bounds = history.store, np.append(episodes.first_step, episodes.first_step[-1] + episodes.length[-1])
    steps = history.read(int(bounds[0]), int(bounds[-1]))
    following = history.next_observations(int(bounds[0]), int(bounds[-1]))
    for i, (start, stop) in enumerate(itertools.pairwise((bounds - bounds[0]).tolist())):
        lived = {name: column[start:stop] for name, column in steps.items()}
        seen = {name: np.concatenate([lived[name], column[stop - 1 : stop]]) for name, column in following.items()}
        lived["truncated"][-1] |= episodes.is_cut[i]
        yield EpisodeBuffer(
            seed=int(episodes.seed[i]) if episodes.seed[i] >= 0 else None,
            observations=unflatten("observation", store.observation_space, seen),
            actions=unflatten("action", store.action_space, lived),
            rewards=lived["reward"],
            terminations=lived["terminated"],
            truncations=lived["truncated"],
            infos=_infos(lived),
        )


def _metadata(history: History, episodes: EpisodeTable) -> list[dict[str, Any]]:
    """Return what Minari has no place for of some episodes."""
    return [
        {LEARNER: history.learner.id, STREAM: history.stream, FIRST_STEP: first_step, IS_CUT: is_cut}
        for first_step, is_cut in zip(episodes.first_step.tolist(), episodes.is_cut.tolist(), strict=True)
    ]


def _notes(learner: Learner) -> tuple[str, ...]:
    num_unknown = sum(num_told(history) < history.num_steps for history in learner.histories)
    if not num_unknown:
        return ()
    return (
        f"learner {learner.id[:12]}: the last episodes of {num_unknown} streams were left out, because what their last "
        "steps led to is lost.",
    )


def _row(learner: Learner) -> LearnerRow:
    """Return a learner's row with the status, steps and digest of what was written."""
    written = {history.stream: num_told(history) for history in learner.histories}
    num_steps = tuple(written.get(stream, 0) for stream in range(learner.spec.num_streams))
    return learner.row.model_copy(
        update={"status": learner.status, "num_steps": num_steps, "digest": learner.digest, "checkpoint": None}
    )


def _updates(store: Store) -> pa.Table:
    """Return all updates as shards hold them, by learner."""
    tables = [pa.table({LEARNER: pa.array([], pa.string())})]
    for learner in store.learners:
        columns = learner.update_columns()
        ids = pa.array([learner.id] * len(columns["update"]), pa.string())
        tables.append(pa.table({LEARNER: ids, **columns}))
    return pa.concat_tables(tables, promote_options="default")


def _infos(steps: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Return optional step fields as nested dictionaries by the parts of their names."""
    infos: dict[str, Any] = {}
    for name, column in steps.items():
        root, *rest = name.split("/")
        if root in REQUIRED_FIELDS:
            continue
        *parents, last = [root, *rest]
        inner = infos
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = column
    return infos or None
