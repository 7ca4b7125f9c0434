"""Record whole reinforcement-learning training histories, and read them back in windows across episodes."""

from historystore.documents import LearnerSpec, Provenance
from historystore.errors import HistoryError
from historystore.learner_writer import LearnerWriter
from historystore.store import History, Learner, Store, create, list_stores, open
from historystore.writer import StoreWriter

__all__ = [
    "History",
    "HistoryError",
    "Learner",
    "LearnerSpec",
    "LearnerWriter",
    "Provenance",
    "Store",
    "StoreWriter",
    "create",
    "list_stores",
    "open",
]
