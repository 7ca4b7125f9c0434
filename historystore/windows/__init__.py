"""Windows across the episodes of histories: addresses, samplers that draw them, and readers that turn them into arrays.

All of it is NumPy; `historystore.torch` wraps it for PyTorch.
"""

from historystore.learner_columns import Predicate
from historystore.returns import learner_final_returns
from historystore.windows.addresses import Address, AddressBatch, Run
from historystore.windows.draws import window_draws
from historystore.windows.histories import Histories
from historystore.windows.mixture import Mixture
from historystore.windows.order import StreamOrder
from historystore.windows.reading import DEFAULT_CACHE_BYTES, DEFAULT_FIELDS, POSITIONS, WindowReader
from historystore.windows.samplers import BALANCES, WindowSampler
from historystore.windows.selection import selected_histories, tasks_of

__all__ = [
    "BALANCES",
    "DEFAULT_CACHE_BYTES",
    "DEFAULT_FIELDS",
    "POSITIONS",
    "Address",
    "AddressBatch",
    "Histories",
    "Mixture",
    "Predicate",
    "Run",
    "StreamOrder",
    "WindowReader",
    "WindowSampler",
    "learner_final_returns",
    "selected_histories",
    "tasks_of",
    "window_draws",
]
