"""What a store holds, in flat columns, worked out from its shards' small tables; steps are never read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from historystore.documents import canonical_json
from historystore.index import LOST, SHARDS
from historystore.shards import ShardReader
from historystore.shards.checks import check_catalog_tables
from historystore.shards.protocol import TABLES, Columns
from historystore.visible import (
    FIRST_STEP,
    LEARNER,
    LENGTH,
    OFFSET,
    SHARD,
    STREAM,
    ShardSummary,
    VisibleLearner,
    visible_learners,
    visible_shards,
)

_EPISODE_COLUMNS = {"history": "<i8", **{k: v for k, v in TABLES["episodes"].items() if k not in ("learner", "stream")}}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Owners:
    """For each learner row of one shard: which histories its rows belong to, if any, and which steps of them."""

    learner: np.ndarray
    first_history: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def catalog(shards: Iterable[ShardReader], *, known: Iterable[str] = ()) -> dict[str, Any]:
    """Return the columns of a store's index.

    Args:
        shards: all that are there.
        known: names of shards that once were there: those that are gone, and that no other replaces, are lost.

    Raises:
        DamagedData: a shard is damaged, or its tables contradict each other.
    """
    readers, sizes, episodes, summaries = {}, {}, {}, []
    for shard in shards:
        name = shard.path.name
        readers[name], sizes[name] = shard, shard.path.stat().st_size
        episodes[name] = shard.episodes
        summaries.append(summary(shard, episodes=episodes[name]))
        shard.close()  # a store may have more shards than a process may have files open
    names = [shard.name for shard in visible_shards(summaries)]
    visible = [readers[name] for name in names]
    learners = visible_learners(summaries)
    num_streams = np.array([len(learner.num_steps) if any(learner.num_steps) else 0 for learner in learners], np.int64)
    first_history = np.concatenate([[0], np.cumsum(num_streams)])
    owners = _owners(visible, learners, first_history)
    histories = _histories(learners, first_history)
    return {
        SHARDS: sizes,
        LOST: sorted(set(known) - set(sizes) - {name for shard in summaries for name in shard.replaces}),
        "visible_shards": names,
        **_layouts(visible),
        **_learners(learners),
        **histories,
        **_pieces(learners, first_history),
        **_parts(owners, len(learners)),
        **_episodes([episodes[name] for name in names], owners, histories["history_num_steps"]),
    }


def summary(shard: ShardReader, *, episodes: Columns | None = None) -> ShardSummary:
    """Return what visibility depends on in a shard; its episodes are read unless they are given.

    Raises:
        DamagedData: the shard is damaged, or its tables contradict each other.
    """
    segments = shard.segments
    check_catalog_tables(shard, segments=segments, episodes=shard.episodes if episodes is None else episodes)
    return ShardSummary(
        name=shard.path.name, replaces=shard.header.replaces, learners=shard.learners, segments=segments
    )


def _owners(
    shards: Sequence[ShardReader], learners: Sequence[VisibleLearner], first_history: np.ndarray
) -> list[_Owners]:
    links = {
        (learner.row.learner, link.attempt): (i, int(first_history[i]) if any(learner.num_steps) else -1, link)
        for i, learner in enumerate(learners)
        for link in learner.links
    }
    owners = []
    for shard in shards:
        found = [links.get((row.learner, row.attempt)) for row in shard.learners]
        rows = [(-1, -1, 0, 0) if f is None else (f[0], f[1], f[2].start, f[2].stop) for f in found]
        table = np.array(rows, np.int64).reshape(-1, 4)
        owners.append(_Owners(learner=table[:, 0], first_history=table[:, 1], start=table[:, 2], stop=table[:, 3]))
    return owners


def _layouts(shards: Sequence[ShardReader]) -> dict[str, Any]:
    """Return the distinct sets of fields, and which of them each shard has."""
    layouts: dict[bytes, int] = {}
    of_shard = []
    for shard in shards:
        key = canonical_json([field.model_dump(mode="json") for field in shard.header.fields])
        of_shard.append(layouts.setdefault(key, len(layouts)))
    return {"layouts": [key.decode() for key in layouts], "shard_layout": np.array(of_shard, np.int64)}


def _learners(learners: Sequence[VisibleLearner]) -> dict[str, Any]:
    rows = [canonical_json(learner.row) for learner in learners]
    return {
        "learner_id": [learner.row.learner for learner in learners],
        "learner_status": [learner.status for learner in learners],
        "learner_digest": [learner.row.digest if learner.has_recorded_digest else "" for learner in learners],
        "learner_row": np.frombuffer(b"".join(rows), np.uint8),
        "learner_row_start": np.cumsum([0, *map(len, rows)]),
    }


def _histories(learners: Sequence[VisibleLearner], first_history: np.ndarray) -> Columns:
    owner = np.repeat(np.arange(len(learners)), np.diff(first_history))
    stream = np.arange(first_history[-1]) - first_history[owner]
    num_steps = [learner.num_steps for learner in learners if any(learner.num_steps)]
    return {
        "history_learner": owner,
        "history_stream": stream,
        "history_num_steps": np.array([count for counts in num_steps for count in counts], np.int64),
    }


def _pieces(learners: Sequence[VisibleLearner], first_history: np.ndarray) -> Columns:
    """Return the pieces of all histories, and where each history's begin."""
    empty = np.zeros((0, 6), np.int64)
    pieces = np.concatenate([empty, *(learner.pieces for learner in learners)])
    counts = [len(learner.pieces) for learner in learners]
    history = np.repeat(first_history[:-1], counts) + pieces[:, STREAM]
    return {
        "piece_start": np.searchsorted(history, np.arange(first_history[-1] + 1)),
        "piece_shard": pieces[:, SHARD],
        "piece_learner": pieces[:, LEARNER],
        "piece_offset": pieces[:, OFFSET],
        "piece_first_step": pieces[:, FIRST_STEP],
        "piece_length": pieces[:, LENGTH],
    }


def _parts(owners: Sequence[_Owners], num_learners: int) -> Columns:
    """Return which rows of which shards are each visible learner's, and the steps for which they count."""
    shard = np.repeat(np.arange(len(owners)), [len(owner.learner) for owner in owners])
    row = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(owner.learner)) for owner in owners)])
    empty = np.zeros(0, np.int64)
    learner, start, stop = (
        np.concatenate([empty, *(getattr(owner, name) for owner in owners)]) for name in ("learner", "start", "stop")
    )
    order = np.lexsort((shard, start, learner))
    order = order[learner[order] >= 0]
    return {
        "part_start": np.searchsorted(learner[order], np.arange(num_learners + 1)),
        "part_shard": shard[order],
        "part_row": row[order],
        "part_first_step": start[order],
        "part_stop": stop[order],
    }


def _episodes(tables: Sequence[Columns], owners: Sequence[_Owners], num_steps: np.ndarray) -> Columns:
    """Return the visible episodes, by history and step."""
    visible = [_visible_episodes(table, owner, num_steps) for table, owner in zip(tables, owners, strict=True)]
    empty = {name: np.zeros(0, dtype) for name, dtype in _EPISODE_COLUMNS.items()}
    joined = {name: np.concatenate([column, *(table[name] for table in visible)]) for name, column in empty.items()}
    is_end = joined["terminated"] | joined["truncated"]
    order = np.lexsort((~is_end, joined["first_step"], joined["history"]))
    table = {name: column[order] for name, column in joined.items()}
    is_new = np.ones(len(order), bool)
    is_new[1:] = (np.diff(table["history"]) != 0) | (np.diff(table["first_step"]) != 0)
    return {f"episode_{name}": column[is_new] for name, column in table.items()}


def _visible_episodes(episodes: Columns, owner: _Owners, num_steps: np.ndarray) -> Columns:
    """Return those of a shard's episodes that show; one that was running counts only at its history's end."""
    row, stop = episodes["learner"], episodes["first_step"] + episodes["length"]
    history = owner.first_history[row] + episodes["stream"]
    keep = (owner.first_history[row] >= 0) & (stop > owner.start[row]) & (stop <= owner.stop[row])
    is_end = episodes["terminated"] | episodes["truncated"]
    last = num_steps[np.where(keep, history, 0)] if len(num_steps) else np.zeros(len(stop), np.int64)
    keep &= (stop <= last) & (is_end | (stop == last))
    columns = {"history": history, **{name: episodes[name] for name in list(_EPISODE_COLUMNS)[1:]}}
    return {name: column[keep].astype(_EPISODE_COLUMNS[name]) for name, column in columns.items()}
