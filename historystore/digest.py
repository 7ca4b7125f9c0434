"""The digest of a learner: SHA-256 over what it lived and learned.

It is taken over logical values in little-endian C order, by stream and step, so it depends neither on blocks and seals,
nor on packing, stored dtypes, compression or file format, nor on times, host, attempt or versions. The writer feeds the
hasher as steps arrive; whoever checks a store feeds another one from what is read, and must get the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from historystore.documents import canonical_json, sha256_hex
from historystore.fields import Field

Json = dict[str, Any]
Hash = Any
"""A hashlib object; its type has no public name."""


class LearnerHasher:
    """A learner's digest, taken a piece at a time; within a stream, pieces come in the order of its steps."""

    def __init__(self, learner: str, *, num_streams: int) -> None:
        self._learner = learner
        self._num_steps = [0] * num_streams
        self._fields: dict[str, Field] = {}
        self._steps: dict[str, list[Hash]] = {}
        self._ends: dict[str, list[Hash]] = {}
        self._episodes = [hashlib.sha256() for _ in range(num_streams)]
        self._updates = hashlib.sha256()

    def define(self, fields: Sequence[Field]) -> None:
        """Say what the steps' fields are; once, before the first step."""
        num_streams = len(self._num_steps)
        self._fields = {field.name: field for field in sorted(fields, key=lambda field: field.name)}
        self._steps = _hashes(self._fields, num_streams)
        self._ends = _hashes(filter(is_observation, self._fields), num_streams)

    def add_steps(self, stream: int, steps: Mapping[str, np.ndarray]) -> None:
        """Add steps of one stream, one array (steps, ...) for each field."""
        for name, hashes in self._steps.items():
            hashes[stream].update(_bytes(steps[name], self._fields[name]))
        self._num_steps[stream] += len(steps["reward"])

    def add_episodes(self, stream: int, episodes: Int64[np.ndarray, "n 3"], ends: Mapping[str, np.ndarray]) -> None:
        """Add finished episodes of one stream, each (first step, length, seed), and the observations they led to."""
        self._episodes[stream].update(np.ascontiguousarray(episodes, "<i8").tobytes())
        for name, hashes in self._ends.items():
            hashes[stream].update(_bytes(ends[name], self._fields[name]))

    def add_update(self, update: int, *, step: int, learning_rate: float, values: Mapping[str, float]) -> None:
        """Add one update; values that are not a number count as absent, and time is not hashed."""
        kept = [[name, float(v).hex()] for name, v in sorted(values.items()) if is_hashed_value(name) and v == v]
        self._updates.update(canonical_json([update, step, float(learning_rate).hex(), kept]))

    def hexdigest(self, running: Iterable[tuple[int, Int64[np.ndarray, "1 3"], Mapping[str, np.ndarray]]]) -> str:
        """Return the digest as of now: the SHA-256 of `document`, which takes the same."""
        return sha256_hex(canonical_json(self.document(running)))

    def document(self, running: Iterable[tuple[int, Int64[np.ndarray, "1 3"], Mapping[str, np.ndarray]]]) -> Json:
        """Return what the digest is taken over: digests of the parts, as the format's specification lists them.

        Args:
            running: for each stream whose last step ended no episode: the stream, the episode it is in, and the
                observation that follows its last step.
        """
        episodes = [hashed.copy() for hashed in self._episodes]
        ends = {name: [hashed.copy() for hashed in hashes] for name, hashes in self._ends.items()}
        for stream, episode, observation in running:
            episodes[stream].update(np.ascontiguousarray(episode, "<i8").tobytes())
            for name, hashes in ends.items():
                hashes[stream].update(_bytes(observation[name], self._fields[name]))
        return {
            "learner": self._learner,
            "num_steps": self._num_steps,
            "fields": [[f.name, f.dtype, list(f.shape)] for f in self._fields.values()],
            "steps": {name: _hex(hashes) for name, hashes in self._steps.items()},
            "final_observations": {name: _hex(hashes) for name, hashes in ends.items()},
            "episodes": _hex(episodes),
            "updates": self._updates.hexdigest(),
        }


def store_digest(learners: Iterable[tuple[str, str]]) -> str:
    """Return the digest of a store from the ids and digests of its visible learners."""
    return sha256_hex(canonical_json(sorted(list(pair) for pair in learners)))


def is_observation(field: str) -> bool:
    """Whether a field is the observation, or part of it."""
    return field.partition("/")[0] == "observation"


def is_hashed_value(name: str) -> bool:
    """Whether a logged value is part of the digest: all are but those about time."""
    return not name.startswith("time/")


def _hashes(names: Iterable[str], num_streams: int) -> dict[str, list[Hash]]:
    return {name: [hashlib.sha256() for _ in range(num_streams)] for name in names}


def _hex(hashes: Iterable[Hash]) -> list[str]:
    return [hashed.hexdigest() for hashed in hashes]


def _bytes(array: np.ndarray, field: Field) -> memoryview | bytes:
    if field.is_packed:
        return b"".join(part for value in array.flat for part in (len(value).to_bytes(8, "little"), value))
    # Viewed as bytes, because a memoryview of booleans or of no elements cannot be hashed everywhere.
    return np.ascontiguousarray(array, field.dtype).reshape(-1).view("u1").data
