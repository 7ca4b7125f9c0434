"""What recordings in lockstep cannot hold, told before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from historystore.errors import InvalidValue

ENGINE = "lockstep"
FIELDS = ("log_prob", "value", "raw_action", "source_observation")
"""The optional step fields that can be recorded."""


def check_recording(*, fields: Sequence[str] | None, checkpoints: str | None) -> None:
    """Refuse what only Stable-Baselines3 itself can record.

    Raises:
        InvalidValue: other step fields, or checkpoints on the way.
    """
    unknown = next((name for name in fields or () if name not in FIELDS), None)
    if unknown is not None:
        raise InvalidValue(
            f"--fields: --engine lockstep records {', '.join(FIELDS)}, got {unknown}. Take --engine sb3, which can."
        )
    if checkpoints not in (None, "final"):
        raise InvalidValue(
            f"--checkpoints: --engine lockstep stores trained models alone (final), got {checkpoints}. "
            "Take --engine sb3, which can."
        )
