"""What recurrent policies read of observations whose parts are counted (imports stable_baselines3)."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor

from historystore.fields import leaves


class FlatFeatures(FlattenExtractor):
    """Stable-Baselines3's flattening, with its width as a plain integer.

    Of a MultiDiscrete space the width is NumPy's, which a linear layer takes and an LSTM refuses. A model exported with
    it needs this package where it is loaded.
    """

    def __init__(self, observation_space: spaces.Space[object]) -> None:
        super().__init__(observation_space)
        self._features_dim = int(self._features_dim)


class CombinedFeatures(CombinedExtractor):
    """The same for the entries of a Dict."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space)
        self._features_dim = int(self._features_dim)


def features_for(policy: str, observation_space: spaces.Space[Any]) -> dict[str, type[BaseFeaturesExtractor]]:
    """Return what `policy_kwargs` needs besides: nothing, but for recurrent policies where something is counted."""
    is_counted = any(isinstance(leaf, spaces.MultiDiscrete) for _, leaf in leaves("observation", observation_space))
    if not (is_counted and policy.endswith("LstmPolicy")):
        return {}
    return {"features_extractor_class": CombinedFeatures if policy.startswith("MultiInput") else FlatFeatures}
