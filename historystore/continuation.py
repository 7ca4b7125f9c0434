"""Continuing an attempt in environments that began anew, because their state could not be saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from historystore.documents import Continuation, Provenance
from historystore.fields import FLAG_FIELDS
from historystore.histories import History
from historystore.learner_writer import LearnerWriter
from historystore.learners import Learner
from historystore.shards.protocol import VALUES, Columns
from historystore.writer import StoreWriter


def continue_cut(
    writer: StoreWriter,
    learner: Learner,
    *,
    step: int,
    provenance: Provenance,
    next_observation: Mapping[str, np.ndarray],
) -> LearnerWriter:
    """Continue a learner's visible attempt at a step, and cut the episodes that are open there.

    No shard changes, and an episode within a history ends where a flag says so. So the new attempt takes over one step
    earlier, with that step as it was, but `truncated` in the streams whose episode was open: something outside of the
    task ended it. The updates after that step are the new attempt's too.

    Args:
        writer: of the learner's store.
        learner: as the refreshed store shows it.
        step: of each stream, at least 1; what follows the last step before it is in the store.
        provenance: of the new attempt.
        next_observation: observation field -> (streams, ...): what the environments show after the reset.
    """
    last = step - 1
    steps = _last_steps(learner.histories, last)
    is_open = ~(steps["terminated"] | steps["truncated"])  # (1, streams)
    attempt = learner.row.attempt
    if not is_open.any():
        continues = Continuation(attempt=attempt, step=step)
        return writer.begin(learner.spec, provenance=provenance, continues=continues)
    continues = Continuation(attempt=attempt, step=last)
    updates = _updates_at(learner, step)
    finals = [history.next_observations(last, step) for history in learner.histories]
    continued = writer.begin(learner.spec, provenance=provenance, continues=continues)
    continued.add_steps(
        steps | {"truncated": steps["truncated"] | is_open},
        final_observations={name: np.concatenate([final[name] for final in finals]) for name in finals[0]},
        next_observation=next_observation,
    )
    for update in updates:
        values = {name[len(VALUES) :]: value for name, value in update.items() if name.startswith(VALUES)}
        rate, wall_time_s = update["learning_rate"], update["wall_time_s"]
        continued.add_update(step=step, values=values, learning_rate=rate, wall_time_s=wall_time_s)
    return continued


def _last_steps(histories: Sequence[History], step: int) -> Columns:
    """Read one step of every stream: field -> (1, streams, ...)."""
    read = [history.read(step, step + 1) for history in histories]
    columns = {name: np.stack([one[name] for one in read], axis=1) for name in read[0]}
    return columns | {name: columns[name].astype(bool) for name in FLAG_FIELDS}


def _updates_at(learner: Learner, step: int) -> list[dict[str, float | int]]:
    """Return the updates whose policy acts from a step on."""
    table = learner.update_columns()
    rows = np.flatnonzero(table["step"] == step).tolist()
    return [{name: column[row].item() for name, column in table.items()} for row in rows]
