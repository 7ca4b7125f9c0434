"""How far a stream has come, as checkpoints keep it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from historystore.errors import InvalidValue

_STEPS_SINCE = "_steps_since_snapshot"
"""Where torchdata's StatefulDataLoader counts the batches it gave since it last asked its workers."""


class StreamState(BaseModel):
    """The next sample of a stream, and what makes sure that it is the same stream."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    epoch: NonNegativeInt
    sample: NonNegativeInt
    """Samples of the epoch that all ranks together are through with."""
    order: str
    """A digest of all that the order of samples depends on."""


class WorkerState(StreamState):
    """The same of one worker of a DataLoader, where `sample` is the next that this worker turns to."""

    num_workers: PositiveInt
    step_samples: PositiveInt
    """Samples of one batch of all ranks."""


def stream_state(states: Mapping[str, Any], *, num_windows: int) -> StreamState:
    """Return the state that `WindowStream.state_dict` or a StatefulDataLoader returned.

    A loader keeps one state a worker, and each takes the batches in turn: what comes next is the first of what the
    workers turn to next.

    Raises:
        InvalidValue: there is no such state in it.
    """
    found = [_parsed(state) for state in _iter_states(states)]
    if not found:
        raise InvalidValue(
            "stream: the state is not one of a stream, expected what state_dict() returned, of the stream or of its "
            f"StatefulDataLoader, got keys {', '.join(map(str, states)) or 'none'}. Load the stream's own."
        )
    first = min(found, key=lambda state: (state.epoch, state.sample))
    since = int(states.get(_STEPS_SINCE, 0)) * (first.step_samples if isinstance(first, WorkerState) else 0)
    return StreamState(epoch=first.epoch, sample=min(first.sample + since, num_windows), order=first.order)


def _parsed(state: Mapping[str, Any]) -> StreamState:
    model = WorkerState if "num_workers" in state else StreamState
    try:
        return model.model_validate(dict(state))
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise InvalidValue(f"stream: the state is damaged, {what}. Load another checkpoint.") from None


def _iter_states(states: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Go through all states of streams within nested dictionaries."""
    if {"epoch", "sample", "order"} <= states.keys():
        yield states
        return
    for value in states.values():
        if isinstance(value, Mapping):
            yield from _iter_states(value)
