"""A store's folder: what lies where, and whether it is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gymnasium import spaces

from historystore.documents import (
    FORMAT,
    FORMAT_VERSION,
    WRITER_FEATURES,
    StoreDocument,
    check_version,
    is_of_older_major,
    is_signed,
    parse_document,
    parse_json,
)
from historystore.errors import (
    DamagedData,
    HistoryError,
    InvalidValue,
    NewerFormat,
    NotAStore,
    OlderFormat,
    StoreNotFound,
)
from historystore.files import is_temporary
from historystore.places import Place, StorePath, place_of
from historystore.shards import suffixes
from historystore.shards.protocol import is_shard_name
from historystore.spaces import space_from_json

DOCUMENT = "store.json"
SHARDS = "shards"
CHECKPOINTS = "checkpoints"
INDEX = "index.arrow"


def read_document(place: Place) -> StoreDocument:
    """Read and check what all shards of a store share.

    Raises:
        NotAStore: the folder holds no store.
        NewerFormat: this version cannot read it.
        DamagedData: the document is damaged.
    """
    where = str(place.at(DOCUMENT))
    try:
        data = place.read(DOCUMENT)
    except FileNotFoundError:
        raise NotAStore(
            f"{place}: is no store, it has no {DOCUMENT}. Give a store's folder; hist inspect lists those of a folder."
        ) from None
    except OSError as error:
        raise _unreadable(where, error) from None
    payload = parse_json(data, where=where)
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise NotAStore(f"{place}: is no store, its {DOCUMENT} is of something else. Give the folder of a store.")
    check_version(payload, where=where)
    if not is_signed(payload):
        raise DamagedData(f"{where}: its digest does not fit what it says. Restore it from a copy or from any shard.")
    return parse_document(StoreDocument, data, where=where)


def shard_names(place: Place) -> tuple[str, ...]:
    """Return the names of all shards in a store's folder.

    The folder is listed until two listings agree: one that is taken while `compact` works may have neither the new
    shard, which came behind its back, nor the old ones, which went before its eyes.
    """
    before, names = None, _listed(place)
    while names != before:
        before, names = names, _listed(place)
    foreign = [name for name in names if not name.endswith(suffixes())]
    if foreign:
        raise NewerFormat(
            f"{place.at(f'{SHARDS}/{foreign[0]}')}: is a shard in a format that this version does not read. "
            "Install a newer one: pip install --upgrade historystore"
        )
    return tuple(names)


def check_addable(place: Place, document: StoreDocument, *, doing: str = "adding to it") -> None:
    """Refuse to add to a store, or to do something else with it, that this version only reads.

    Raises:
        OlderFormat: it is of an earlier major version of the format.
        NewerFormat: adding to it takes features that this version lacks.
    """
    if is_of_older_major(document.format_version):
        raise OlderFormat(
            f"{place}: is in format {document.format_version}, {doing} takes {FORMAT_VERSION}. Run hist migrate {place}"
        )
    unknown = sorted(set(document.writer_features) - WRITER_FEATURES)
    if unknown:
        raise NewerFormat(
            f"{place}: can only be read, writing needs the features {', '.join(unknown)}, which this version lacks. "
            "Install a newer one: pip install --upgrade historystore"
        )


def _listed(place: Place) -> list[str]:
    try:
        return sorted(name for name in place.names(SHARDS) if is_shard_name(name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(place.at(SHARDS), error) from None


def check_free(place: Place) -> None:
    """Refuse to create a store over something else; another process may be creating the same one."""
    kind = place.kind()
    if kind == "folder":
        names = [name for name in place.names() if name != SHARDS and not is_temporary(name)]
        if not names or DOCUMENT in names:
            return
        raise NotAStore(f"{place}: is a folder with other things in it, and no store. Choose a new or empty folder.")
    if kind == "file":
        raise NotAStore(f"{place}: is a file. Choose a folder for the store.")


def list_stores(folder: StorePath | Place) -> list[Path | str]:
    """Return the stores right inside a folder, by name; as URLs if it is remote.

    Raises:
        StoreNotFound: there is no such folder.
    """
    place = place_of(folder)
    if place.kind() != "folder":
        raise StoreNotFound(f"{place}: there is no such folder. Check the path.")
    return [place.at(name) for name in sorted(place.names()) if place.exists(f"{name}/{DOCUMENT}")]


def space_of(place: Place, doc: dict[str, Any]) -> spaces.Space[Any]:
    """Return a space of a store's document.

    Raises:
        DamagedData: the document says none.
    """
    try:
        return space_from_json(doc)
    except InvalidValue as error:
        raise DamagedData(f"{place}: {error}") from None


def _unreadable(where: Path | str, error: OSError) -> HistoryError:
    if isinstance(error, HistoryError):
        return error
    return StoreNotFound(f"{where}: cannot be read, {(error.strerror or '').lower()}. Check its permissions.")
