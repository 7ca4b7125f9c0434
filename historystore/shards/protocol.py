"""What a shard holds, whatever its file format, and the formats there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from historystore.documents import LearnerRow, ShardHeader
from historystore.errors import InvalidValue, NotAStore

Columns = dict[str, np.ndarray]

TABLES: dict[str, dict[str, str]] = {
    "segments": {"learner": "<i4", "stream": "<i4", "first_step": "<i8", "offset": "<i8", "length": "<i8"},
    "episodes": {
        "learner": "<i4",
        "stream": "<i4",
        "first_step": "<i8",
        "length": "<i8",
        "return": "<f8",
        "terminated": "|b1",
        "truncated": "|b1",
        "seed": "<i8",
    },
    "final_observations": {"learner": "<i4", "stream": "<i4", "step": "<i8"},
    "updates": {
        "learner": "<i4",
        "update": "<i8",
        "step": "<i8",
        "wall_time_s": "<f8",
        "learning_rate": "<f8",
    },
}
"""The small tables' fixed columns. ``learner`` is a row of the shard's own learners.

`final_observations` also has one column for each observation field: what followed step ``step`` of its history, at
every end of an episode and at the history's end as of this shard. `updates` also has one float64 column for each logged
value, named ``values/<name>``, NaN where a learner logged no such value. An episode that is neither terminated nor
truncated was still running when the shard was sealed: it counts only where its end is the end of its history.
"""
VALUES = "values/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardTables:
    """Everything that one shard holds, in memory, in logical dtypes."""

    header: ShardHeader
    learners: tuple[LearnerRow, ...]
    steps: Columns
    segments: Columns
    episodes: Columns
    final_observations: Columns
    updates: Columns

    def with_header(self, header: ShardHeader) -> ShardTables:
        """Return the same with another header."""
        return replace(self, header=header)


class ShardReader(ABC):
    """A shard on disk. Opens its file on first use, again in each process, and can be pickled.

    Whatever is read was checked against the file's checksums; damage raises DamagedData.

    An abstract class where a Protocol would do: before Python 3.12, asking whether an object fits a Protocol reads all
    of its properties, here from the disk.
    """

    @property
    @abstractmethod
    def path(self) -> Path:
        """The shard's file."""

    @property
    @abstractmethod
    def header(self) -> ShardHeader:
        """What the shard says about itself."""

    @property
    @abstractmethod
    def learners(self) -> tuple[LearnerRow, ...]:
        """The learners with data in this shard, each as of this seal."""

    @property
    @abstractmethod
    def segments(self) -> Columns:
        """Which rows of the steps are which steps of which history."""

    @property
    @abstractmethod
    def episodes(self) -> Columns:
        """The episodes that ended in this shard, and those that were running at its seal."""

    @property
    @abstractmethod
    def final_observations(self) -> Columns:
        """What followed the last step of each episode, and of each history as of this shard."""

    @property
    @abstractmethod
    def updates(self) -> Columns:
        """The learners' updates."""

    @property
    @abstractmethod
    def chunk_steps(self) -> int:
        """The largest number of rows that any field compresses together; always a power of two."""

    @abstractmethod
    def field_chunk_steps(self, field: str) -> int:
        """Return how many rows of one field are compressed together."""

    @abstractmethod
    def read(self, field: str, start: int, stop: int) -> np.ndarray:
        """Read rows of one step field, in its logical dtype.

        Raises:
            MissingField: the shard lacks the field.
            DamagedData: the rows' checksum does not fit.
        """

    @property
    def is_mapped(self) -> bool:
        """Whether `take` gathers right from the file, without decompressing or reading around."""
        return False

    def take(self, field: str, rows: np.ndarray) -> np.ndarray:
        """Gather rows of one step field, in its logical dtype.

        Raises:
            MissingField: the shard lacks the field.
            DamagedData: a row's checksum does not fit.
        """
        first, last = (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, 0)
        taken: np.ndarray = self.read(field, first, last)[rows - first]
        return taken

    @abstractmethod
    def close(self) -> None:
        """Close the file; the next read opens it again."""


FormatName = Literal["hdf5", "arrow"]
Profile = Literal["standard", "fast", "archive", "compat"]
"""How a shard is written. HDF5: `standard` compresses as far as costs no speed, `archive` as far as possible, `compat`
so that readers need no plugin. Arrow: `fast` not at all, so that windows are gathered from a memory map, or `archive`.
"""


@runtime_checkable
class ShardFormat(Protocol):
    """A file format for shards."""

    @property
    def suffix(self) -> str:
        """The end of its files' names."""

    def encode(self, tables: ShardTables) -> bytes:
        """Return the bytes of a shard's file."""

    def open(self, path: Path) -> ShardReader:
        """Return a reader of a shard's file."""

    def with_header(self, path: Path, header: bytes) -> bytes:
        """Return a shard's file with another header; everything else is copied as it lies, and not checked.

        Raises:
            DamagedData: the file is not of this format.
        """


def _hdf5(profile: Profile | None) -> ShardFormat:
    from historystore.shards.hdf5 import Hdf5Format

    return Hdf5Format(profile=profile or "standard")


def _arrow(profile: Profile | None) -> ShardFormat:
    from historystore.shards.arrow import ArrowFormat

    return ArrowFormat(profile=profile or "fast")


_FORMATS: Mapping[str, tuple[str, Callable[[Profile | None], ShardFormat]]] = {
    "hdf5": (".h5", _hdf5),
    "arrow": (".arrow", _arrow),
}
"""Name of a format -> the end of its files' names, and what makes it."""


def read_tables(shard: ShardReader) -> ShardTables:
    """Read all of a shard into memory, in logical dtypes.

    Raises:
        DamagedData: something of it does not hold what was written to it.
    """
    header = shard.header
    return ShardTables(
        header=header,
        learners=shard.learners,
        steps={field.name: shard.read(field.name, 0, header.num_steps) for field in header.fields},
        **{table: getattr(shard, table) for table in TABLES},
    )


def is_shard_name(name: str) -> bool:
    """Whether a file is named as a shard of a store is, of a later format too: by the SHA-256 of its bytes."""
    stem, _, suffix = name.partition(".")
    return len(stem) == 64 and not set(stem) - set("0123456789abcdef") and suffix.isalnum()


def suffixes() -> tuple[str, ...]:
    """Return the suffixes of all known shard formats."""
    return tuple(suffix for suffix, _ in _FORMATS.values())


def shard_format(name: str = "hdf5", *, profile: Profile | None = None) -> ShardFormat:
    """Return a format by its name; the profile, by default the format's own, decides how it writes.

    Raises:
        InvalidValue: there is no such format, or it has no such profile.
    """
    if name not in _FORMATS:
        raise InvalidValue(f"format: there is no {name!r}, expected one of {', '.join(_FORMATS)}. Choose one.")
    return _FORMATS[name][1](profile)


def open_shard(path: Path) -> ShardReader:
    """Return a reader of one shard by its file's suffix.

    Raises:
        NotAStore: no shard format has this suffix.
    """
    return shard_format(format_name(path)).open(path)


def format_name(path: Path) -> str:
    """Return the name of a shard's format by its file's suffix.

    Raises:
        NotAStore: no shard format has this suffix.
    """
    for name, (suffix, _) in _FORMATS.items():
        if path.suffix == suffix:
            return name
    known = " or ".join(suffixes())
    raise NotAStore(f"{path}: is no shard, expected a name ending in {known}. Give a store or a shard.")
