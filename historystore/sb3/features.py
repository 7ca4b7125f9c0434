"""What recurrent policies read of observations whose parts are counted (imports stable_baselines3)."""

from __future__ import annotations

from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor


class FlatFeatures(FlattenExtractor):
    """Stable-Baselines3's flattening, with its width as a plain integer.

    Of a MultiDiscrete space the width is NumPy's, which a linear layer takes and an LSTM refuses. A model exported with
    it needs this package where it is loaded.
    """

    def __init__(self, observation_space: spaces.Space[object]) -> None:
        super().__init__(observation_space)
        self._features_dim = int(self._features_dim)
