"""The histories of one or several stores side by side, as the flat arrays that samplers deal in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped

from historystore.documents import canonical_json
from historystore.errors import InvalidValue
from historystore.store import Store


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Histories:
    """Some histories and their episodes; the episodes of history `i` are `first_episode[i]` to `first_episode[i + 1]`.

    Histories lie in the order of the stores, then of the learners' ids, then of the streams. So the order depends on
    what was recorded, not on the shards it came in.
    """

    index: Int64[np.ndarray, " histories"]
    """Which history of all that the stores hold together: what an address names."""
    learner: Int64[np.ndarray, " histories"]
    """Which learner of all that the stores hold together."""
    task: Int64[np.ndarray, " histories"]
    """Which task, counted in the order in which tasks first appear."""
    first_episode: Int64[np.ndarray, " histories_and_end"]
    episode_start: Int64[np.ndarray, " episodes"]
    """The step of its history at which an episode starts."""
    episode_stop: Int64[np.ndarray, " episodes"]

    @classmethod
    def of(cls, stores: Sequence[Store]) -> Histories:
        """Return all visible histories of some stores."""
        task_ids: dict[bytes, int] = {}
        learner, task, history, start, stop, num_steps = ([np.zeros(0, np.int64)] for _ in range(6))
        num_learners = num_histories = 0
        for store in stores:
            texts = [canonical_json(each.spec.task) for each in store.learners]
            tasks = np.array([task_ids.setdefault(text, len(task_ids)) for text in texts], dtype=np.int64)
            learner.append(store.histories.learner + num_learners)
            task.append(tasks[store.histories.learner])
            num_steps.append(store.histories.num_steps)
            history.append(store.episodes.history + num_histories)
            start.append(store.episodes.first_step)
            stop.append(store.episodes.first_step + store.episodes.length)
            num_learners += len(store.learners)
            num_histories += len(store.histories)
        episodes = _without_gaps(*map(np.concatenate, (history, start, stop, num_steps)))
        return cls(
            index=np.arange(num_histories),
            learner=np.concatenate(learner),
            task=np.concatenate(task),
            first_episode=offsets(np.bincount(episodes[0], minlength=num_histories)),
            episode_start=episodes[1],
            episode_stop=episodes[2],
        )

    def __len__(self) -> int:
        return len(self.index)

    @property
    def num_episodes(self) -> Int64[np.ndarray, " histories"]:
        """Episodes of each history."""
        return np.diff(self.first_episode)

    @property
    def episode_history(self) -> Int64[np.ndarray, " episodes"]:
        """Which history here each episode is of."""
        return np.repeat(np.arange(len(self)), self.num_episodes)

    @property
    def place(self) -> Int64[np.ndarray, " episodes"]:
        """Which episode of its history each is."""
        place: np.ndarray = np.arange(len(self.episode_start)) - np.repeat(self.first_episode[:-1], self.num_episodes)
        return place

    @property
    def stop(self) -> Int64[np.ndarray, " histories"]:
        """The step at which the last episode of each history stops, 0 where there is none."""
        stops = np.append(self.episode_stop, 0)[self.first_episode[1:] - 1]
        return np.where(self.num_episodes > 0, stops, 0)

    @property
    def num_steps(self) -> Int64[np.ndarray, " histories"]:
        """Steps in the episodes of each history."""
        return self.summed(self.episode_stop - self.episode_start)

    def summed(self, values: Shaped[np.ndarray, " episodes"]) -> Int64[np.ndarray, " histories"]:
        """Sum whole numbers, one an episode, over each history."""
        sums: np.ndarray = offsets(values.astype(np.int64, copy=False))
        each: np.ndarray = sums[self.first_episode[1:]] - sums[self.first_episode[:-1]]
        return each

    def only(self, chosen: Int64[np.ndarray, " chosen"]) -> Histories:
        """Return some of these histories, by position here; `index` still says what an address calls them."""
        return self._cut(chosen, self.first_episode[:-1][chosen], self.first_episode[1:][chosen])

    def joined(self) -> Histories:
        """Return the histories with all episodes of each made one, for where the ends of episodes do not matter."""
        chosen = np.flatnonzero(self.num_episodes)
        return Histories(
            index=self.index[chosen],
            learner=self.learner[chosen],
            task=self.task[chosen],
            first_episode=np.arange(len(chosen) + 1),
            episode_start=self.episode_start[self.first_episode[chosen]],
            episode_stop=self.stop[chosen],
        )

    def part(self, start: float | int, stop: float | int) -> Histories:
        """Return a part of each history: of its `n` episodes those from `start * n` to `stop * n`, rounded outwards."""
        if not 0 <= start < stop <= 1:
            raise InvalidValue(
                f"windows: a part of a history is not (start, stop) with 0 <= start < stop <= 1, got {(start, stop)}. "
                "Use (0.9, 1.0) for the last tenth of its episodes."
            )
        first, count = self.first_episode[:-1], self.num_episodes
        low = np.floor(count * start + 1e-9).astype(np.int64)  # 0.7 * 10 is a little more than 7
        high = np.ceil(count * stop - 1e-9).astype(np.int64)
        return self._cut(np.arange(len(self)), first + low, first + high)

    def _cut(
        self,
        chosen: Int64[np.ndarray, " chosen"],
        start: Int64[np.ndarray, " chosen"],
        stop: Int64[np.ndarray, " chosen"],
    ) -> Histories:
        """Return some histories with the episodes from `start` to `stop`."""
        first_episode = offsets(stop - start)
        episodes = np.repeat(start - first_episode[:-1], stop - start) + np.arange(first_episode[-1])
        return Histories(
            index=self.index[chosen],
            learner=self.learner[chosen],
            task=self.task[chosen],
            first_episode=first_episode,
            episode_start=self.episode_start[episodes],
            episode_stop=self.episode_stop[episodes],
        )


def offsets(counts: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows_and_end"]:
    """Return where the rows of each group begin, and where the last one's end, from how many each has."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def _without_gaps(
    history: Int64[np.ndarray, " episodes"],
    start: Int64[np.ndarray, " episodes"],
    stop: Int64[np.ndarray, " episodes"],
    num_steps: Int64[np.ndarray, " histories"],
) -> tuple[Int64[np.ndarray, " rows"], Int64[np.ndarray, " rows"], Int64[np.ndarray, " rows"]]:
    """Return episodes with what lies between and behind them as episodes too.

    No episode is recorded for steps whose episode ended in a shard that is lost, or was cut where another attempt took
    over.
    """
    last = np.flatnonzero(np.diff(history, append=len(num_steps)))
    reached = np.zeros(len(num_steps), np.int64)
    reached[history[last]] = stop[last]
    before = np.concatenate([np.zeros(1, np.int64), stop[:-1]])[: len(stop)]
    before[np.diff(history, prepend=-1) != 0] = 0
    gap, tail = np.flatnonzero(start > before), np.flatnonzero(reached < num_steps)
    rows = np.stack([history, start, stop])
    if len(gap) or len(tail):
        gaps = np.stack([history[gap], before[gap], start[gap]])
        tails = np.stack([tail, reached[tail], num_steps[tail]])
        rows = np.concatenate([rows, gaps, tails], axis=1)
        rows = rows[:, np.lexsort(rows[1::-1])]
    return rows[0], rows[1], rows[2]
