"""The foreign formats by name; a format's module loads when it is asked for."""

from collections.abc import Callable

from historystore.errors import InvalidValue
from historystore.exchange.protocol import Exporter, Importer


def _minari_exporter() -> Exporter:
    from historystore.exchange.minari import EXPORTER

    return EXPORTER


def _minari_importer() -> Importer:
    from historystore.exchange.minari_import import IMPORTER

    return IMPORTER


def _xland_exporter() -> Exporter:
    from historystore.exchange.xland import EXPORTER

    return EXPORTER


def _xland_importer() -> Importer:
    from historystore.exchange.xland import IMPORTER

    return IMPORTER


def _dicp_exporter() -> Exporter:
    from historystore.exchange.dicp import EXPORTER

    return EXPORTER


def _dicp_importer() -> Importer:
    from historystore.exchange.dicp import IMPORTER

    return IMPORTER


def _parquet_exporter() -> Exporter:
    from historystore.exchange.parquet import EXPORTER

    return EXPORTER


_EXPORTERS: dict[str, Callable[[], Exporter]] = {
    "minari": _minari_exporter,
    "parquet": _parquet_exporter,
    "xland": _xland_exporter,
    "dicp": _dicp_exporter,
}
_IMPORTERS: dict[str, Callable[[], Importer]] = {
    "minari": _minari_importer,
    "xland": _xland_importer,
    "dicp": _dicp_importer,
}


def exporters() -> list[str]:
    """List the names of the formats that a store can be written in."""
    return list(_EXPORTERS)


def importers() -> list[str]:
    """List the names of the formats that a store can be made of."""
    return list(_IMPORTERS)


def exporter(name: str) -> Exporter:
    """Return how a store is written in a format.

    Raises:
        InvalidValue: no format has that name.
    """
    _check("export", name, exporters())
    return _EXPORTERS[name]()


def importer(name: str) -> Importer:
    """Return how a format is read.

    Raises:
        InvalidValue: no format has that name.
    """
    _check("import", name, importers())
    return _IMPORTERS[name]()


def _check(where: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise InvalidValue(f"{where}: no format is called {name!r}, expected one of {', '.join(known)}. Choose one.")
