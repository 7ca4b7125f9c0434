"""Stores: opening, creating, listing, and what is in them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from jaxtyping import Int64

from historystore.catalog import catalog
from historystore.digest import store_digest
from historystore.documents import FORMAT, FORMAT_VERSION, Status, StoreDocument, canonical_json, parse_json, signed
from historystore.ends import EndTable
from historystore.errors import InvalidValue, MissingField, SpaceMismatch, StoreNotFound
from historystore.fields import Field, space_fields
from historystore.folder import (
    DOCUMENT,
    INDEX,
    SHARDS,
    check_addable,
    check_free,
    list_stores,
    read_document,
    shard_names,
    space_of,
)
from historystore.histories import History
from historystore.index import Index, known_shards, load_index
from historystore.learners import Learner
from historystore.places import Place, StorePath, place_of
from historystore.shards import ShardReader, suffixes
from historystore.shards.protocol import Columns
from historystore.spaces import space_to_json
from historystore.tables import EpisodeTable, HistoryTable

MAX_OPEN_SHARDS = 256
MAX_TABLES = 16

Mode = Literal["r", "a"]

__all__ = [
    "EpisodeTable",
    "History",
    "HistoryTable",
    "Learner",
    "Store",
    "create",
    "list_stores",
    "open",
]


class Store:
    """A store's visible learners, as of when it was opened or refreshed.

    Opened for reading, a store is never written to, unless to refresh its index. Shards are opened when they are first
    read, in each process again; a store can be pickled and is then the same set of shards elsewhere.
    """

    def __init__(
        self,
        place: StorePath | Place,
        *,
        document: StoreDocument,
        shard_names: Sequence[str],
        mode: Mode,
        index: Index | None = None,
    ) -> None:
        self.place = place_of(place)
        self.document = document
        self.mode: Mode = mode
        self.observation_space = space_of(self.place, document.observation_space)
        self.action_space = space_of(self.place, document.action_space)
        self._all_shards = tuple(shard_names)
        self._index = index
        self._readers: OrderedDict[str, ShardReader] = OrderedDict()
        self._ends: OrderedDict[int, EndTable] = OrderedDict()
        self._updates: OrderedDict[int, Columns] = OrderedDict()

    def __repr__(self) -> str:
        return f"Store({str(self.place)!r}, {self.document.family}, {len(self._all_shards)} shards)"

    def __getstate__(self) -> dict[str, Any]:
        return {
            "place": self.place,
            "document": self.document,
            "shard_names": self._all_shards,
            "mode": self.mode,
            "index": self._index,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def path(self) -> Path:
        """The store's folder, or its file if it is a single shard.

        Raises:
            InvalidValue: the store is remote; see `place`.
        """
        return self.place.path

    @property
    def index(self) -> Index:
        """The catalog of what is visible; loaded, or worked out from the shards and saved, when first needed."""
        if self._index is None:
            copies = () if self.is_shard else self.place.derived(INDEX)
            self._index = load_index(copies, shards=self._sizes())
        if self._index is None:
            known = () if self.is_shard else known_shards(self.place.derived(INDEX))
            self._index = Index.of(catalog([self._reader(name) for name in self._all_shards], known=known))
            if not self.is_shard and shard_names(self.place) == self._all_shards:
                self.place.keep_derived(INDEX, self._index.encode(), is_writing=self.mode == "a")
        return self._index

    @cached_property
    def is_shard(self) -> bool:
        """Whether this is a single shard, opened by itself."""
        return str(self.place).endswith(suffixes()) and self.place.kind() != "folder"

    @property
    def shard_names(self) -> tuple[str, ...]:
        """The names of the visible shards; tables refer to a shard by its position here."""
        return tuple(self.index.json("visible_shards"))

    @cached_property
    def learners(self) -> tuple[Learner, ...]:
        """The visible learners, by id."""
        return tuple(Learner(self, i) for i in range(len(self.index.json("learner_id"))))

    @cached_property
    def histories(self) -> HistoryTable:
        """The visible histories, by learner and stream."""
        return HistoryTable(self.index)

    @cached_property
    def episodes(self) -> EpisodeTable:
        """The visible episodes, by history and step."""
        return EpisodeTable(self.index)

    @cached_property
    def episode_start(self) -> Int64[np.ndarray, " histories_and_1"]:
        """First episode of each history, and the number of episodes."""
        return np.searchsorted(self.episodes.history, np.arange(self.num_histories + 1))

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The union of the shards' step fields; where they differ, in the dtype that holds both."""
        union: dict[str, Field] = {}
        for shard in range(len(self.shard_names)):
            for field in self.shard_fields(shard):
                known = union.setdefault(field.name, field)
                if known.dtype != field.dtype:
                    union[field.name] = known.model_copy(update={"dtype": np.result_type(known.dtype, field.dtype).str})
        return tuple(union.values())

    @property
    def num_histories(self) -> int:
        """Visible histories."""
        return len(self.histories)

    @property
    def num_episodes(self) -> int:
        """Visible episodes, cut ones included."""
        return len(self.episodes)

    @property
    def num_steps(self) -> int:
        """Visible steps of all histories."""
        return int(self.histories.num_steps.sum())

    @property
    def num_bytes(self) -> int:
        """Bytes of all shards on the disk, of hidden ones too."""
        return sum(self._sizes().values())

    @cached_property
    def digest(self) -> str:
        """The digest over the visible learners' ids and digests; equal stores have equal ones, however packed."""
        return store_digest((learner.id, learner.digest) for learner in self.learners)

    def status_of(self) -> dict[str, Status]:
        """Return the status of each visible learner by its id."""
        return dict(zip(self.index.json("learner_id"), self.index.json("learner_status"), strict=True))

    def learner(self, learner: str) -> Learner:
        """Return a learner by its id, by an unambiguous beginning of it, or by its seed as ``seed=7``.

        Raises:
            InvalidValue: no learner, or several, begin so or have that seed.
        """
        seed = learner.removeprefix("seed=")
        if seed != learner:
            found = [known for known in self.learners if str(known.spec.seed) == seed]
            what, advice = f"of seed {seed}", "Give the beginning of its id."
        else:
            found = [known for known in self.learners if known.id.startswith(learner)]
            what, advice = f"with an id beginning {learner!r}", "Give a whole id."
        if len(found) != 1:
            count = "several learners" if found else "no learner"
            raise InvalidValue(f"{self.place}: {count} {what}. {advice}")
        return found[0]

    def field(self, name: str) -> Field:
        """Return a field of the union by its name.

        Raises:
            MissingField: no shard has it.
        """
        for field in self.fields:
            if field.name == name:
                return field
        known = ", ".join(field.name for field in self.fields)
        raise MissingField(f"{self.place}: has no field {name!r}, expected one of {known}. Choose one of those.")

    def shard(self, index: int) -> ShardReader:
        """Return a visible shard by its position in `shard_names`."""
        return self._reader(self.shard_names[index])

    def shard_fields(self, index: int) -> tuple[Field, ...]:
        """Return the fields of a visible shard, without opening it."""
        return self._layouts[int(self.index.array("shard_layout")[index])]

    def shard_ends(self, index: int) -> EndTable:
        """Return a visible shard's final observations; the last few are remembered."""
        if index not in self._ends:
            self._ends[index] = EndTable.of(self.shard(index).final_observations)
            if len(self._ends) > MAX_TABLES:
                self._ends.popitem(last=False)
        return self._ends[index]

    def shard_updates(self, index: int) -> Columns:
        """Return a visible shard's updates; the last few are remembered."""
        if index not in self._updates:
            self._updates[index] = self.shard(index).updates
            if len(self._updates) > MAX_TABLES:
                self._updates.popitem(last=False)
        return self._updates[index]

    def learners_table(self) -> Any:
        """Return a `pyarrow.Table` with a row a visible learner, by id."""
        from historystore.exports import learners_table

        return learners_table(self)

    def episodes_table(self) -> Any:
        """Return a `pyarrow.Table` with a row a visible episode, by learner, stream and step."""
        from historystore.exports import episodes_table

        return episodes_table(self)

    def updates_table(self, *, learner: str | None = None) -> Any:
        """Return a `pyarrow.Table` with a row an update, by learner and update; of one learner, or of all.

        A column is named after the logged value; a value that was not logged is null.
        """
        from historystore.exports import updates_table

        return updates_table(self, learner=learner)

    def refresh(self) -> None:
        """See the shards that were added since; positions of learners, histories and shards may change."""
        names = self._all_shards if self.is_shard else shard_names(self.place)
        if names == self._all_shards:
            return
        self._all_shards = names
        self._index = None
        self._ends.clear()
        self._updates.clear()
        for name in ("learners", "histories", "episodes", "episode_start", "fields", "digest", "_layouts"):
            self.__dict__.pop(name, None)

    def check_writable(self) -> None:
        """Refuse writing to a store that was opened for reading.

        Raises:
            InvalidValue: it was opened for reading.
        """
        if self.mode != "a":
            raise InvalidValue(f"{self.place}: is open for reading. Open it with mode='a', or use create().")

    def close(self) -> None:
        """Close the shards' files; reading opens them again."""
        for reader in self._readers.values():
            reader.close()
        self._ends.clear()
        self._updates.clear()

    @cached_property
    def _layouts(self) -> tuple[tuple[Field, ...], ...]:
        layouts = (parse_json(text.encode(), where=INDEX) for text in self.index.json("layouts"))
        return tuple(tuple(Field.model_validate(field) for field in layout) for layout in layouts)

    def _reader(self, name: str) -> ShardReader:
        """Return a shard's reader; beyond a number of open files, the one least recently used is closed."""
        if name in self._readers:
            self._readers.move_to_end(name)
            return self._readers[name]
        self._readers[name] = self.place.shard("" if self.is_shard else f"{SHARDS}/{name}")
        if len(self._readers) > MAX_OPEN_SHARDS:
            self._readers.popitem(last=False)[1].close()
        return self._readers[name]

    def _sizes(self) -> dict[str, int]:
        if self.is_shard:
            return {name: self._reader(name).path.stat().st_size for name in self._all_shards}
        sizes = self.place.sizes(SHARDS)
        return {name: sizes.get(name, 0) for name in self._all_shards}


def open(path: StorePath | Place, *, mode: Mode = "r") -> Store:
    """Open a store's folder, or one of its shards by itself.

    Shards of a remote store are fetched when they are first read and kept on this machine, where
    `historystore.remote.folders` says. Opened for reading, a remote store is never written to.

    Args:
        path: the folder, or the file of a shard; or the URL of either, such as ``s3://bucket/store``.
        mode: ``"r"`` to read, ``"a"`` to add to it as well.

    Raises:
        StoreNotFound: nothing is there.
        NotAStore: something else is there.
        NewerFormat: this version cannot read it, or with ``mode="a"`` cannot write to it.
        OlderFormat: with ``mode="a"``, it has to be migrated first.
        DamagedData: its ``store.json`` or a shard is damaged.
        Unreachable: the server of a remote store does not answer.
    """
    place = place_of(path)
    kind = place.kind()
    if kind is None:
        raise StoreNotFound(
            f"{place}: there is no store here. Check the path; hist inspect lists the stores of a folder."
        )
    if kind == "folder":
        return _open_folder(place, mode=mode)
    if mode != "r":
        raise InvalidValue(f"{place}: a single shard is never written to. Open its store, or open it for reading.")
    shard = place.shard("")
    return Store(place, document=shard.header.store, shard_names=(shard.path.name,), mode=mode)


def create(
    path: StorePath | Place, *, family: str, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> Store:
    """Create a store, or open it for adding to it if it is there already; any number of processes may do so at once.

    Raises:
        InvalidValue: a space cannot be stored.
        SpaceMismatch: a store of another family or other spaces is there.
        NotAStore: something else is there.
        NewerFormat: this version cannot read it or cannot write to it.
        OlderFormat: it has to be migrated first.
        WriteFailed: the disk or server refused.
        Unreachable: the server of a remote store does not answer.
    """
    place = place_of(path)
    for prefix, space in (("observation", observation_space), ("action", action_space)):
        space_fields(prefix, space)
    payload = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "reader_features": [],
        "writer_features": [],
        "family": family,
        "observation_space": space_to_json(observation_space),
        "action_space": space_to_json(action_space),
    }
    if not place.exists(DOCUMENT):
        check_free(place)
        place.prepare(SHARDS)
        payload["id"] = place.new_id(canonical_json(payload).decode())
        place.create(DOCUMENT, canonical_json(signed(payload)) + b"\n")
    store = _open_folder(place, mode="a")
    _check_same(store, payload)
    return store


def _open_folder(place: Place, *, mode: Mode) -> Store:
    document = read_document(place)
    if mode == "a":
        check_addable(place, document)
    return Store(place, document=document, shard_names=shard_names(place), mode=mode)


def _check_same(store: Store, payload: dict[str, Any]) -> None:
    for key, what in (("family", "family"), ("observation_space", "observations"), ("action_space", "actions")):
        ours, theirs = payload[key], getattr(store.document, key)
        if ours != theirs:
            raise SpaceMismatch(
                f"{store.place}: holds other {what}, expected {canonical_json(theirs).decode()}, "
                f"got {canonical_json(ours).decode()}. Choose another place for this store."
            )
