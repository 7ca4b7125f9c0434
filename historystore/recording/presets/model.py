"""What a preset says."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, JsonValue


class Preset(BaseModel):
    """What a learner is given unless the caller says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str | None = None
    """By its Stable-Baselines3 name; None for the one that the observations ask for."""
    num_streams: int = 1
    num_steps: int | None = None
    """Environment steps over all streams, SB3's `total_timesteps`; None where nobody knows how many are enough."""
    hyperparameters: dict[str, JsonValue] = {}
    """What differs from the algorithm's own defaults, by Stable-Baselines3's names."""
    why: str
    """One sentence, and the figures it was chosen by."""

    def for_streams(self, num_streams: int | None) -> Preset:
        """Return the settings for so many streams (None: its own): rollouts, `n_steps` of each, hold as many steps."""
        n_steps = self.hyperparameters.get("n_steps")
        if not num_streams or not isinstance(n_steps, int):
            return self
        hyperparameters = {**self.hyperparameters, "n_steps": max(n_steps * self.num_streams // num_streams, 1)}
        return self.model_copy(update={"num_streams": num_streams, "hyperparameters": hyperparameters})
