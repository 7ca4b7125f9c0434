"""A store's folder: what lies where, and whether it is one."""

from __future__ import annotations

from pathlib import Path

from historystore.documents import FORMAT, StoreDocument, check_version, is_signed, parse_document, parse_json
from historystore.errors import DamagedData, NewerFormat, NotAStore, StoreNotFound
from historystore.files import is_temporary
from historystore.shards import suffixes
from historystore.shards.protocol import is_shard_name

DOCUMENT = "store.json"
SHARDS = "shards"
CHECKPOINTS = "checkpoints"
INDEX = "index.arrow"


def read_document(path: Path) -> StoreDocument:
    """Read and check what all shards of a store share.

    Raises:
        NotAStore: the folder holds no store.
        NewerFormat: this version cannot read it.
        DamagedData: the document is damaged.
    """
    place = path / DOCUMENT
    try:
        data = place.read_bytes()
    except FileNotFoundError:
        raise NotAStore(
            f"{path}: is no store, it has no {DOCUMENT}. Give a store's folder; hist inspect lists those of a folder."
        ) from None
    except OSError as error:
        raise _unreadable(place, error) from None
    payload = parse_json(data, where=str(place))
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise NotAStore(f"{path}: is no store, its {DOCUMENT} is of something else. Give the folder of a store.")
    check_version(payload, where=str(place))
    if not is_signed(payload):
        raise DamagedData(f"{place}: its digest does not fit what it says. Restore it from a copy or from any shard.")
    return parse_document(StoreDocument, data, where=str(place))


def shard_names(path: Path) -> tuple[str, ...]:
    """Return the names of all shards in a store's folder.

    The folder is listed until two listings agree: one that is taken while `compact` works may have neither the new
    shard, which came behind its back, nor the old ones, which went before its eyes.
    """
    before, names = None, _listed(path)
    while names != before:
        before, names = names, _listed(path)
    foreign = [name for name in names if not name.endswith(suffixes())]
    if foreign:
        raise NewerFormat(
            f"{path / SHARDS / foreign[0]}: is a shard in a format that this version does not read. "
            "Install a newer one: pip install --upgrade historystore"
        )
    return tuple(names)


def _listed(path: Path) -> list[str]:
    try:
        return sorted(file.name for file in (path / SHARDS).iterdir() if is_shard_name(file.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(path / SHARDS, error) from None


def check_free(path: Path) -> None:
    """Refuse to create a store over something else; another process may be creating the same one."""
    if path.is_dir():
        names = [file.name for file in path.iterdir() if file.name != SHARDS and not is_temporary(file.name)]
        if not names or DOCUMENT in names:
            return
        raise NotAStore(f"{path}: is a folder with other things in it, and no store. Choose a new or empty folder.")
    if path.exists():
        raise NotAStore(f"{path}: is a file. Choose a folder for the store.")


def _unreadable(path: Path, error: OSError) -> StoreNotFound:
    return StoreNotFound(f"{path}: cannot be read, {(error.strerror or '').lower()}. Check its permissions.")
