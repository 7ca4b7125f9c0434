"""The attempts in a set of shards, some of them damaged: which parts each has, and what it continues."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from historystore.salvage import AttemptWalk
from historystore.wreck import Wreck, WreckPart, guessed_segments

Parts = list[WreckPart]
Attempts = dict[tuple[str, str], Parts]


def shown(wrecks: Mapping[str, Wreck]) -> list[Wreck]:
    """Leave out the shards that another one replaces; or that other one, if it is damaged and they are all whole."""
    hidden: set[str] = set()
    for name, wreck in wrecks.items():
        replaced = [wrecks.get(one) for one in wreck.reader.header.replaces]
        is_superfluous = bool(replaced) and all(one is not None and one.is_whole for one in replaced)
        if not wreck.is_whole and is_superfluous:
            hidden.add(name)
        else:
            hidden.update(wreck.reader.header.replaces)
    return [wreck for name, wreck in wrecks.items() if name not in hidden]


def attempts_of(wrecks: Sequence[Wreck]) -> Attempts:
    """Return the parts of each attempt in the order of their seals; segments that cannot be read are guessed."""
    attempts: Attempts = {}
    for wreck in wrecks:
        for owner, row in enumerate(wreck.reader.learners):
            attempts.setdefault((row.learner, row.attempt), []).append(WreckPart(wreck=wreck, owner=owner))
    for parts in attempts.values():
        parts.sort(key=lambda part: (part.row.sequence, part.wreck.file))
    earlier = {
        (after.wreck.file, after.owner): before.row
        for parts in attempts.values()
        for before, after in itertools.pairwise(parts)
    }
    for wreck in wrecks:
        if "segments" not in wreck.unreadable:
            continue
        rows = [earlier.get((wreck.file, owner)) for owner in range(len(wreck.reader.learners))]
        for owner, segments in enumerate(guessed_segments(wreck, rows) or []):
            row = wreck.reader.learners[owner]
            parts = attempts[row.learner, row.attempt]
            place = next(i for i, part in enumerate(parts) if part.wreck is wreck)
            parts[place] = replace(parts[place], guessed_segments=segments)
    return attempts


def begun_walk(attempts: Attempts, parts: Parts) -> AttemptWalk | None:
    """Return a walk that stands where an attempt begins; None if what it continues does not reach so far."""
    lineage: list[tuple[Parts, int]] = []
    continues, end = parts[0].row.continues, np.iinfo(np.int64).max
    while continues is not None and len(lineage) < len(attempts):
        end = min(continues.step, end)
        parents = attempts.get((parts[0].row.learner, continues.attempt), [])
        lineage.insert(0, (parents, end))
        continues = parents[0].row.continues if parents else None
    everything = [part for parents, _ in lineage for part in parents] + parts
    fields = next((part.wreck.reader.header.fields for part in everything if part.has_steps), ())
    walk = AttemptWalk(parts[0].row, fields, everything)
    for parents, stop in lineage:
        for part in parents:
            walk.add(part, stop=stop)
        if set(walk.num_steps) != {stop}:
            return None
    return walk


def with_proven_segments(attempts: Attempts, parts: Parts) -> Parts:
    """Drop guessed segments that the learner's digest does not prove."""
    parts = list(parts)
    while any(part.is_guessed for part in parts):
        walk = begun_walk(attempts, parts)
        wrong = next((i for i, part in enumerate(parts) if walk is None or not _is_proven(walk, part)), None)
        if wrong is None:
            break
        parts[wrong] = replace(parts[wrong], guessed_segments=None)
    return parts


def _is_proven(walk: AttemptWalk, part: WreckPart) -> bool:
    salvaged = walk.add(part)
    return salvaged.is_whole or not part.is_guessed
