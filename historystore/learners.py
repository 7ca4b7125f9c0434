"""One learner of a store: its specification, histories and updates."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from historystore.documents import LearnerRow, LearnerSpec, Status, parse_json, validated
from historystore.histories import History
from historystore.shards.protocol import VALUES, Columns

if TYPE_CHECKING:
    from historystore.store import Store


class Learner:
    """The visible attempt at one training run."""

    def __init__(self, store: Store, index: int) -> None:
        self.store = store
        self.index = index
        """Position among the store's learners."""
        catalog = store.index
        self.id: str = catalog.json("learner_id")[index]
        self.status: Status = catalog.json("learner_status")[index]

    def __repr__(self) -> str:
        return f"Learner({self.id[:12]}, {self.status}, {len(self.histories)} histories)"

    @cached_property
    def row(self) -> LearnerRow:
        """Everything recorded about the attempt, as of its latest seal."""
        catalog = self.store.index
        first, last = catalog.array("learner_row_start")[self.index : self.index + 2].tolist()
        data = catalog.array("learner_row")[first:last].tobytes()
        where = f"{self.store.place}: learner {self.id[:12]}"
        return validated(LearnerRow, parse_json(data, where=where), where=where, is_lenient=True)

    @property
    def spec(self) -> LearnerSpec:
        """What defines the learner."""
        return self.row.spec

    @cached_property
    def digest(self) -> str:
        """SHA-256 over what is visible of it.

        As the recorder wrote it; computed from all its steps where only part of what was recorded is left.
        """
        from historystore.replay import learner_digest

        recorded: str = self.store.index.json("learner_digest")[self.index]
        return recorded or learner_digest(self)

    @cached_property
    def histories(self) -> tuple[History, ...]:
        """Its histories, by stream; none if it never took a step."""
        first, last = np.searchsorted(self.store.histories.learner, [self.index, self.index + 1]).tolist()
        return tuple(History(self.store, history) for history in range(first, last))

    def attempts(self) -> tuple[LearnerRow, ...]:
        """Read the attempts that its visible steps are from, the first one first; all but the last were continued."""
        latest: dict[str, LearnerRow] = {}
        for shard, index, _, _ in self._parts():
            row = self.store.shard(shard).learners[index]
            if row.attempt not in latest or row.sequence > latest[row.attempt].sequence:
                latest[row.attempt] = row
        lineage = [self.row]
        while (continues := lineage[0].continues) is not None and continues.attempt in latest:
            lineage.insert(0, latest.pop(continues.attempt))
        return tuple(lineage)

    def updates(self) -> Any:
        """Return its updates as a `pyarrow.Table`, see `Store.updates_table`."""
        return self.store.updates_table(learner=self.id)

    def update_columns(self) -> Columns:
        """Read its visible updates, in order; values that it never logged are left out."""
        parts = [
            _updates(self.store.shard_updates(shard), row, start, stop) for shard, row, start, stop in self._parts()
        ]
        num_steps = max((history.num_steps for history in self.histories), default=0)
        return _in_order(parts, num_steps=num_steps)

    def _parts(self) -> Iterator[tuple[int, int, int, int]]:
        """Give what shards hold of it: shard, row, and the steps from and before which that counts."""
        catalog = self.store.index
        first, last = catalog.array("part_start")[self.index : self.index + 2].tolist()
        names = ("part_shard", "part_row", "part_first_step", "part_stop")
        yield from zip(*(catalog.array(name)[first:last].tolist() for name in names), strict=True)


def _updates(table: Columns, row: int, start: int, stop: int) -> Columns:
    """Return one attempt's updates within the steps for which it counts; one at its very end is still its own."""
    step = table["step"]
    keep = (table["learner"] == row) & (step <= stop) & ((step > start) | (start == 0))
    return {name: column[keep] for name, column in table.items() if name != "learner"}


def _in_order(parts: list[Columns], *, num_steps: int) -> Columns:
    """Join updates of several shards by their numbers, each once; absent values are NaN."""
    names = dict.fromkeys(name for part in parts for name in part)
    joined: Columns = {}
    for name in ("update", "step", "wall_time_s", "learning_rate", *names):
        columns = [part.get(name, np.full(len(part["update"]), np.nan)) for part in parts]
        joined[name] = np.concatenate([np.zeros(0, np.int64 if name in ("update", "step") else np.float64), *columns])
    _, first = np.unique(joined["update"], return_index=True)
    first = first[joined["step"][first] <= num_steps]
    table = {name: column[first] for name, column in joined.items()}
    return {name: column for name, column in table.items() if not (name.startswith(VALUES) and np.isnan(column).all())}
