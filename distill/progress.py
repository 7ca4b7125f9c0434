"""How a training tells how far it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """How good the weights are on validation tasks."""

    loss: float
    last_return: float | None
    """Mean return of the last quarter of the episodes lived in context; None where the family has no environments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainProgress:
    """One update done."""

    update: int
    """How many updates are done."""
    num_updates: int
    loss: float
    learning_rate: float
    tokens_per_s: float
    validation: Validation | None

    def scalars(self) -> dict[str, float]:
        """Return every number that is known, by name, but the count of updates."""
        scalars = {
            "loss": self.loss,
            "learning_rate": self.learning_rate,
            "tokens_per_s": float(round(self.tokens_per_s)),
        }
        if self.validation is not None:
            scalars["validation_loss"] = self.validation.loss
            if self.validation.last_return is not None:
                scalars["validation_return"] = self.validation.last_return
        return scalars
