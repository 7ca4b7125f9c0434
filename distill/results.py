"""What an evaluation found, as JSON documents.

Lists by episode count from the first episode, lived with an empty context. Absent numbers are null.
"""

from __future__ import annotations

from typing import Literal

from historystore.documents import Document
from historystore.splits import Task

FORMAT: Literal["historystore-evaluation"] = "historystore-evaluation"
FORMAT_VERSION: Literal["0.1"] = "0.1"

Numbers = tuple[float, ...]
Known = tuple[float | None, ...]


class Interval(Document):
    """A 95 % bootstrap interval of a mean."""

    low: float
    high: float


class TaskResult(Document):
    """One task."""

    task: Task
    return_by_episode: Numbers
    """Mean over rollouts."""
    first_return: float
    """Mean over rollouts and the first three episodes."""
    last_return: float
    """Mean over rollouts and the last ten episodes."""
    last_interval: Interval
    """Of `last_return`, over rollouts."""
    source_return_by_episode: Known
    """The source learners' mean return at the same number of environment steps."""
    source_last_return: float | None
    """The source learners' mean return at the end of their histories."""
    best_return: float | None
    random_return: float | None
    returns: tuple[Numbers, ...]
    """By rollout and episode."""


class PartResult(Document):
    """The tasks of one part of the split; every mean is over tasks, each weighing the same."""

    num_tasks: int
    env_steps_by_episode: Numbers
    """Environment steps lived up to the end of each episode, on average."""
    return_by_episode: Numbers
    interval_by_episode: tuple[Interval, ...]
    """Of `return_by_episode`, over tasks."""
    first_return: float
    last_return: float
    last_interval: Interval
    """Of `last_return`, over tasks."""
    lowest_task_return: float
    """The lowest `last_return` of any task."""
    source_return_by_episode: Known
    source_last_return: float | None
    best_return: float | None
    random_return: float | None
    tasks: tuple[TaskResult, ...]


class Evaluation(Document):
    """A run evaluated on parts of its split; parts that were not asked for are null."""

    format: Literal["historystore-evaluation"] = FORMAT
    format_version: Literal["0.1"] = FORMAT_VERSION
    run: str
    """The name of the run's folder."""
    family: str
    method: Literal["ad", "ed"]
    num_updates: int
    is_complete: bool
    """False where the training was still under way."""
    store_digests: tuple[str, ...]
    split_seed: int
    seed: int
    num_episodes: int
    num_rollouts: int
    train: PartResult | None = None
    validation: PartResult | None = None
    test: PartResult | None = None
    compared: Evaluation | None = None
    """Another run on the same tasks."""

    @property
    def compared_label(self) -> str:
        """What to call the compared run: by its method, or where that is the same by its name."""
        assert self.compared is not None
        return self.compared.run if self.compared.method == self.method else self.compared.method.upper()

    def parts(self) -> dict[str, PartResult]:
        """Return the evaluated parts by name, test first."""
        named = {"test": self.test, "validation": self.validation, "train": self.train}
        return {name: part for name, part in named.items() if part is not None}
