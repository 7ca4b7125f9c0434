"""What an evaluation found, as JSON documents.

Lists by episode count from the first episode, lived with an empty context. Absent numbers are null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, JsonValue

from historystore.documents import Document
from historystore.splits import Task

FORMAT: Literal["historystore-evaluation"] = "historystore-evaluation"
FORMAT_VERSION: Literal["0.1"] = "0.1"

Numbers = tuple[float, ...]
Known = tuple[float | None, ...]


def args_text(args: Mapping[str, JsonValue]) -> str:
    """Render a family's arguments as they are given on the command line."""
    return " ".join(f"{name}={value}" for name, value in args.items())


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
    """Of `return_by_episode`, over tasks; over the rollouts of a single task."""
    first_return: float
    last_return: float
    last_interval: Interval
    """Of `last_return`, over tasks; over the rollouts of a single task."""
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
    family_args: dict[str, JsonValue] = Field(default_factory=dict)
    """Arguments of the family in which it lived."""
    trained_args: dict[str, JsonValue] | None = Field(default_factory=dict)
    """Those that its stores were recorded with; null where they differed."""
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
    fresh: PartResult | None = None
    """Tasks drawn anew, which no store of the run holds."""
    compared: Evaluation | None = None
    """Another run on the same tasks."""

    @property
    def world(self) -> str:
        """The family and its arguments in words, and what the run was trained with where that is something else."""
        lived = f"{self.family} {arguments}" if (arguments := args_text(self.family_args)) else self.family
        if self.trained_args == self.family_args:
            return lived
        trained = "differing arguments" if self.trained_args is None else args_text(self.trained_args) or "defaults"
        return f"{lived}, trained with {trained}"

    @property
    def compared_label(self) -> str:
        """What to call the compared run: by its method, or where that is the same by its name."""
        assert self.compared is not None
        return self.compared.run if self.compared.method == self.method else self.compared.method.upper()

    def parts(self) -> dict[str, PartResult]:
        """Return the evaluated parts by name: test first, tasks that were trained on last."""
        named = {"test": self.test, "fresh": self.fresh, "validation": self.validation, "train": self.train}
        return {name: part for name, part in named.items() if part is not None}
