"""Minari datasets (Farama Foundation), read: those of `hist export` as the learners they were, others as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from historystore.documents import LearnerRow, LearnerSpec, StoreDocument, validated
from historystore.errors import InvalidValue
from historystore.exchange.alignment import FOLLOWING, SEED, iter_blocks
from historystore.exchange.groups import provenance_of_file
from historystore.exchange.minari import (
    DATA,
    FIRST_STEP,
    IS_CUT,
    LEARNER,
    METADATA,
    STREAM,
    UPDATES,
    required_minari,
)
from historystore.exchange.protocol import Block, ForeignLearner, ForeignStore, Importer
from historystore.fields import escape_key, flatten
from historystore.histories import Columns
from historystore.learner_writer import OriginalAttempt
from historystore.parts import Update
from historystore.shards.protocol import VALUES
from historystore.spaces import space_from_json

READ_EPISODES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Episode:
    """An episode of a dataset, and its place in a history where that is known."""

    id: int
    length: int
    seed: int
    learner: str = ""
    stream: int = 0
    first_step: int = 0
    is_cut: bool = False


def read_minari(source: Path) -> ForeignStore:
    """Read a dataset's folder.

    Raises:
        InvalidValue: it is no dataset that the installed Minari reads.
        MissingExtra: Minari is not installed.
    """
    dataset = _dataset(source)
    episodes = [_episode(metadata) for metadata in dataset.storage.get_episode_metadata(dataset.episode_indices)]
    metadata = dataset.storage.metadata
    if METADATA not in metadata:
        return _plain(source, dataset, episodes, notes=())
    learners = [validated(LearnerRow, row, where=f"{source}: learner") for row in metadata[METADATA]["learners"]]
    if not _are_whole(learners, episodes):
        return _plain(source, dataset, episodes, notes=(NOT_WHOLE,))
    document = validated(StoreDocument, metadata[METADATA]["store"], where=f"{source}: store")
    return ForeignStore(
        family=document.family,
        observation_space=space_from_json(document.observation_space),
        action_space=space_from_json(document.action_space),
        total_steps=int(dataset.total_steps),
        learners=_iter_learners(dataset, learners, episodes),
    )


NOT_WHOLE = "Episodes of its learners are missing or out of order, so it was imported as one learner."
IMPORTER = Importer(
    read=read_minari,
    lost=(
        "a dataset that hist export did not write knows no learners: all its episodes are one stream of one learner, "
        "with neither task, hyperparameters, seed nor updates",
        "an episode of such a dataset that ends unmarked counts as truncated",
        "the info of a reset is left out, an episode's other infos are info/<key>; options of a reset are left out",
        "environment, reference scores, authors and other metadata stay behind",
    ),
)


def _dataset(source: Path) -> Any:
    minari = required_minari()
    place = source / DATA if (source / DATA).is_dir() else source
    try:
        return minari.MinariDataset(place)
    except (ValueError, KeyError, AssertionError, OSError) as error:
        raise InvalidValue(f"{source}: cannot be read as a Minari dataset, {error}. Give a dataset's folder.") from None


def _episode(metadata: Mapping[str, Any]) -> _Episode:
    seed = metadata.get("seed")
    return _Episode(
        id=int(metadata["id"]),
        length=int(metadata["total_steps"]),
        seed=-1 if seed is None else int(seed),
        learner=str(metadata.get(LEARNER, "")),
        stream=int(metadata.get(STREAM, 0)),
        first_step=int(metadata.get(FIRST_STEP, 0)),
        is_cut=bool(metadata.get(IS_CUT, False)),
    )


def _by_history(episodes: Sequence[_Episode]) -> dict[tuple[str, int], list[_Episode]]:
    histories: dict[tuple[str, int], list[_Episode]] = {}
    for episode in sorted(episodes, key=lambda episode: episode.first_step):
        histories.setdefault((episode.learner, episode.stream), []).append(episode)
    return histories


def _are_whole(learners: Sequence[LearnerRow], episodes: Sequence[_Episode]) -> bool:
    """Whether the episodes make the histories of the learners, each without a gap from its beginning to its end."""
    histories = _by_history(episodes)
    expected = {(row.learner, i): num_steps for row in learners for i, num_steps in enumerate(row.num_steps)}
    stops = {key: np.cumsum([episode.length for episode in history]) for key, history in histories.items()}
    return {key: int(stop[-1]) for key, stop in stops.items()} == {k: n for k, n in expected.items() if n} and all(
        [episode.first_step for episode in history[1:]] == stops[key][:-1].tolist()
        for key, history in histories.items()
    )


def _iter_learners(dataset: Any, rows: Sequence[LearnerRow], episodes: Sequence[_Episode]) -> Iterator[ForeignLearner]:
    """Give the learners that `hist export` wrote."""
    histories, updates = _by_history(episodes), _Updates(Path(dataset.storage.data_path) / UPDATES)
    for row in rows:
        streams = [histories[row.learner, i] for i in range(len(row.num_steps)) if (row.learner, i) in histories]
        yield ForeignLearner(
            spec=row.spec,
            provenance=row.provenance,
            blocks=_iter_blocks(dataset, streams, is_ours=True),
            updates=updates.iter_learner(row.learner),
            status=row.status,
            error=row.error,
            original=OriginalAttempt(attempt=row.attempt, started=row.started, ended=row.ended),
            digest=row.digest,
        )


def _plain(source: Path, dataset: Any, episodes: Sequence[_Episode], *, notes: tuple[str, ...]) -> ForeignStore:
    """Return a dataset of no known learners as one."""
    environment = dataset.env_spec.id if dataset.env_spec else ""
    total_steps = sum(episode.length for episode in episodes)
    learner = ForeignLearner(
        spec=LearnerSpec(
            family=environment or dataset.id,
            algorithm=dataset.storage.metadata.get("algorithm_name", "unknown"),
            policy="unknown",
            hyperparameters={"dataset": dataset.id},
            num_streams=1,
            num_steps=total_steps,
        ),
        provenance=provenance_of_file(source, engine="import:minari", environment=environment),
        blocks=_iter_blocks(dataset, [episodes], is_ours=False),
    )
    return ForeignStore(
        family=learner.spec.family,
        observation_space=dataset.observation_space,
        action_space=dataset.action_space,
        total_steps=total_steps,
        learners=iter([learner]),
        notes=notes,
    )


def _iter_blocks(dataset: Any, streams: Sequence[Sequence[_Episode]], *, is_ours: bool) -> Iterator[Block]:
    if streams:
        yield from iter_blocks([_iter_columns(dataset, episodes, is_ours=is_ours) for episodes in streams])


def _iter_columns(dataset: Any, episodes: Sequence[_Episode], *, is_ours: bool) -> Iterator[Columns]:
    """Read the episodes of a stream, one after the other."""
    for start in range(0, len(episodes), READ_EPISODES):
        batch = episodes[start : start + READ_EPISODES]
        read = dataset.storage.get_episodes([episode.id for episode in batch])
        for episode, data in zip(batch, read, strict=True):
            yield _columns(dataset, episode, data, is_ours=is_ours)


def _columns(dataset: Any, episode: _Episode, data: Mapping[str, Any], *, is_ours: bool) -> Columns:
    """Return an episode's steps."""
    seen = flatten("observation", dataset.observation_space, data["observations"])  # (steps + 1, ...)
    truncated = np.array(data["truncations"], bool)
    if is_ours:
        truncated[-1] &= not episode.is_cut
    else:
        truncated[-1] |= not data["terminations"][-1]
    infos = dict(_iter_infos(data.get("infos") or {}))
    if not is_ours:
        infos = {("info", *map(escape_key, parts)): column for parts, column in infos.items()}
    return {
        **{name: column[:-1] for name, column in seen.items()},
        **flatten("action", dataset.action_space, data["actions"]),
        "reward": np.asarray(data["rewards"]),
        "terminated": np.asarray(data["terminations"], bool),
        "truncated": truncated,
        # A recorder of Minari's puts the reset's info first.
        **{"/".join(parts): column[len(column) - episode.length :] for parts, column in infos.items()},
        **{f"{FOLLOWING}{name}": column[1:] for name, column in seen.items()},
        SEED: np.append(episode.seed, np.full(episode.length - 1, -1)),
    }


def _iter_infos(infos: Mapping[str, Any], parents: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give the arrays of numbers in nested infos, each with the keys on the way to it."""
    for key, value in infos.items():
        if isinstance(value, Mapping):
            yield from _iter_infos(value, (*parents, key))
        elif np.asarray(value).dtype.kind in "biufc":
            yield (*parents, key), np.asarray(value)


class _Updates:
    """The updates that lie beside a dataset, which are in the order of learners."""

    def __init__(self, path: Path) -> None:
        self._table = pq.read_table(path)
        ids, first, num_rows = np.unique(self._table[LEARNER].to_numpy(), return_index=True, return_counts=True)
        self._rows = dict(zip(ids, zip(first.tolist(), num_rows.tolist(), strict=True), strict=True))

    def iter_learner(self, learner: str) -> Iterator[Update]:
        """Give a learner's updates."""
        table = self._table.slice(*self._rows.get(learner, (0, 0)))
        for row in table.to_pylist():
            yield Update(
                update=row["update"],
                step=row["step"],
                wall_time_s=row["wall_time_s"],
                learning_rate=row["learning_rate"],
                values={
                    name[len(VALUES) :]: value
                    for name, value in row.items()
                    if name.startswith(VALUES) and value is not None
                },
            )
