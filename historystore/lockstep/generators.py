"""Where the learners' chance comes from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Generators:
    """Two independent generators a learner, made from its seed alone."""

    def __init__(self, seeds: Sequence[int | None]) -> None:
        pairs = [np.random.SeedSequence(seed).spawn(2) for seed in seeds]
        self.actions = [np.random.default_rng(actions) for actions, _ in pairs]
        """What the actions are drawn from."""
        self.orders = [np.random.default_rng(orders) for _, orders in pairs]
        """What the minibatches are drawn from."""
