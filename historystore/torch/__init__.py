"""Windows across episodes as PyTorch datasets: by number, or as a stream. Imports torch."""

from historystore.torch.dataset import WindowBatches, WindowDataset, WindowRange
from historystore.torch.stream import WindowStream

__all__ = ["WindowBatches", "WindowDataset", "WindowRange", "WindowStream"]
