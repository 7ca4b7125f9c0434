"""Gymnasium's classic control."""

from historystore.recording.presets.model import Preset

PRESETS: dict[tuple[str, str], Preset] = {}
