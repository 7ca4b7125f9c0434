"""What a learner has lived since the last seal, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from historystore.fields import Field, fits
from historystore.shards.protocol import Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Episodes:
    """Rows of episodes that ended or are running."""

    stream: Int64[np.ndarray, " n"]
    first_step: Int64[np.ndarray, " n"]
    length: Int64[np.ndarray, " n"]
    return_: Float64[np.ndarray, " n"]
    seed: Int64[np.ndarray, " n"]
    terminated: Bool[np.ndarray, " n"]
    truncated: Bool[np.ndarray, " n"]

    def keys(self) -> Int64[np.ndarray, "n 3"]:
        """Return what of them a digest covers: first step, length, seed."""
        return np.stack([self.first_step, self.length, self.seed], axis=1)

    def columns(self) -> Columns:
        """Return them as a shard stores them, without the learner."""
        return {
            "stream": self.stream,
            "first_step": self.first_step,
            "length": self.length,
            "return": self.return_,
            "terminated": self.terminated,
            "truncated": self.truncated,
            "seed": self.seed,
        }


@dataclass(slots=True)
class RunningEpisodes:
    """The episode that each stream is in; its length is 0 right after an end."""

    first_step: Int64[np.ndarray, " streams"]
    return_: Float64[np.ndarray, " streams"]
    seed: Int64[np.ndarray, " streams"]

    @classmethod
    def starting(cls, *, num_streams: int) -> RunningEpisodes:
        """Return episodes that begin with the history, their seeds unknown."""
        zeros = np.zeros(num_streams, np.int64)
        return cls(first_step=zeros, return_=np.zeros(num_streams), seed=zeros - 1)

    def rows(self, *, step: int) -> Episodes:
        """Return the episodes that have steps, as they stand before a step."""
        streams = np.flatnonzero(self.first_step < step)
        first, no = self.first_step[streams], np.zeros(len(streams), bool)
        return Episodes(
            stream=streams,
            first_step=first,
            length=step - first,
            return_=self.return_[streams],
            seed=self.seed[streams],
            terminated=no,
            truncated=no,
        )

    def advance(
        self,
        *,
        step: int,
        reward: Shaped[np.ndarray, "streams time"],
        terminated: Bool[np.ndarray, "streams time"],
        truncated: Bool[np.ndarray, "streams time"],
        seeds: Int64[np.ndarray, "streams time"],
    ) -> Episodes:
        """Live through the steps from `step` on; return the episodes that end in them, by stream and step.

        Each stream's steps fall into runs: one begins with the block, one behind each end, so that the last run of each
        stream, which may be empty, is the episode that goes on.
        """
        num_streams, time = reward.shape
        is_start = np.ones((num_streams, time + 1), bool)
        is_start[:, 1:] = terminated | truncated
        stream, begin = np.nonzero(is_start)  # both (ends + streams,)
        padded = np.zeros((num_streams, time + 1))
        padded[:, :time] = reward
        sums = np.add.reduceat(padded.reshape(-1), stream * (time + 1) + begin)
        is_first = begin == 0
        first = np.where(is_first, self.first_step[stream], step + begin)
        sums += np.where(is_first, self.return_[stream], 0.0)
        given = np.where(begin < time, seeds[stream, np.minimum(begin, time - 1)], -1)
        seed = np.where(first < step, self.seed[stream], given)
        is_last = np.diff(stream, append=num_streams) != 0
        self.first_step, self.return_, self.seed = first[is_last], sums[is_last], seed[is_last]
        stop = step + np.roll(begin, -1)[~is_last]
        ended, at = stream[~is_last], stop - step - 1
        return Episodes(
            stream=ended,
            first_step=first[~is_last],
            length=stop - first[~is_last],
            return_=sums[~is_last],
            seed=seed[~is_last],
            terminated=terminated[ended, at],
            truncated=truncated[ended, at],
        )


class StepBuffer:
    """Steps of all streams of one learner, kept as they will be stored."""

    def __init__(self, fields: tuple[Field, ...], *, num_streams: int) -> None:
        self.num_streams = num_streams
        self.num_steps = 0
        self.num_bytes = 0
        self._fields = fields
        self._blocks: dict[str, list[np.ndarray]] = {field.name: [] for field in fields}

    def add(self, block: Mapping[str, Shaped[np.ndarray, "streams time ..."]]) -> None:
        """Keep a block, of which each array belongs to the buffer from now on."""
        for field in self._fields:
            stored = narrowed(block[field.name], np.dtype(field.stored_dtype))
            self._blocks[field.name].append(stored)
            self.num_bytes += sum(map(len, stored.flat)) if field.is_packed else stored.nbytes
        self.num_steps += block["reward"].shape[1]

    def column(self, field: str) -> Shaped[np.ndarray, "rows ..."]:
        """Return all steps of a field, one stream after the other."""
        joined = np.concatenate(self._blocks[field], axis=1)  # (streams, time, ...)
        return joined.reshape(self.num_streams * self.num_steps, *joined.shape[2:])


def narrowed(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Return an array in its stored dtype, or as it is if a value does not fit."""
    if dtype == array.dtype or not array.size:
        return array.astype(dtype, copy=False)
    if array.dtype.kind in "iu" and not fits(dtype, low=int(array.min()), high=int(array.max())):
        return array
    return array.astype(dtype)
