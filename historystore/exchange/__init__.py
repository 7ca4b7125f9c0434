"""Other people's formats: a store written in them, and they made a store.

One format a file. Each says what it cannot hold; what turns up on the way is in the report's notes.
"""

from historystore.exchange.protocol import ExchangeReport, Progress
from historystore.exchange.registry import exporter, exporters, importer, importers
from historystore.exchange.transfer import iter_exported, iter_imported

__all__ = [
    "ExchangeReport",
    "Progress",
    "exporter",
    "exporters",
    "importer",
    "importers",
    "iter_exported",
    "iter_imported",
]
