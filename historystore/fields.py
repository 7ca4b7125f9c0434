"""The table of stored step arrays: their names, their dtypes, and how a space's value falls into columns.

A field's *logical* dtype is what the environment gave and what a reader gets. Its *stored* dtype is the smallest that
the space's bounds allow for integers and flags; floats are stored as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from gymnasium import spaces
from jaxtyping import Shaped
from pydantic import BaseModel, ConfigDict, StringConstraints, WithJsonSchema

from historystore.errors import InvalidValue, NewerFormat
from historystore.packed import VARIABLE, pack, unpack

STEP_FIELDS: dict[str, str] = {
    "observation": "what the learner saw before it acted, in the environment's own layout",
    "action": "what the environment was given, after any clipping or rescaling",
    "reward": "what the environment returned, before any normalisation",
    "terminated": "whether the task itself ended the episode at this step",
    "truncated": "whether something outside the task, such as a time limit, ended the episode at this step",
    "log_prob": "log-probability of the raw action under the policy that drew it",
    "value": "the learner's own estimate of the return from this observation on",
    "raw_action": "what the policy drew, before clipping or rescaling",
    "source_observation": "what only the source learner saw: stacked frames, a hidden bit",
    "info": "an entry of the environment's info dictionary, as info/<key>",
}
"""Each standard name with its meaning; a name may be followed by ``/<key>``."""
REQUIRED_FIELDS = ("observation", "action", "reward", "terminated", "truncated")
PLAIN, PACKED = "plain", "packed"
ENCODINGS: dict[str, int] = {PLAIN: 1, PACKED: 1}
"""How values may lie in a shard -> the latest version of that way, which writers stamp; stamped nowhere else."""
OBJECT = "|O"
"""The dtype of packed values in memory: an object array of bytes."""
FLAG_FIELDS = ("terminated", "truncated")

_NARROW = tuple(np.dtype(code) for code in ("u1", "i1", "u2", "i2", "u4", "i4"))


DTYPES = r"^(\|b1|\|[iu]1|<[iu][248]|<f[248]|<c8|<c16|\|O)$"
DtypeText = Annotated[str, StringConstraints(pattern=DTYPES)]


class Field(BaseModel):
    """One stored array of a shard's steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    dtype: DtypeText
    """What it is read in, as NumPy writes it: ``<i8``."""
    stored_dtype: DtypeText
    """What it lies on the disk in."""
    shape: tuple[Annotated[int, Ge(0)], ...]
    """The shape of one step's value."""
    encoding: Annotated[str, WithJsonSchema({"type": "string", "enum": list(ENCODINGS)})] = PLAIN
    encoding_version: Annotated[int, Ge(1)] = ENCODINGS[PLAIN]

    @property
    def is_packed(self) -> bool:
        """Whether values have no fixed size: each is the bytes that `pack` makes of it."""
        return self.encoding == PACKED

    @property
    def num_bytes(self) -> int:
        """Bytes of one step's value in memory; of a packed one, those of the reference to it."""
        return np.dtype(self.dtype).itemsize * int(np.prod(self.shape, dtype=np.int64))


def field_of(name: str, array: Shaped[np.ndarray, ...], *, shape: tuple[int, ...]) -> Field:
    """Return the field of an array that no space bounds; it is stored as it is, flags in one byte."""
    dtype = _little(array.dtype)
    _check_dtype(name, dtype)
    return Field(name=name, dtype=dtype.str, stored_dtype="|u1" if dtype.kind == "b" else dtype.str, shape=shape)


def check_encodings(fields: Iterable[Field], *, where: str) -> None:
    """Refuse fields whose values lie in a way that only a later version of this package knows.

    Raises:
        NewerFormat: one of them does.
    """
    for field in fields:
        if field.encoding_version > ENCODINGS.get(field.encoding, 0):
            known = ", ".join(f"{encoding} {version}" for encoding, version in ENCODINGS.items())
            raise NewerFormat(
                f"{where}: {field.name} is in encoding {field.encoding} {field.encoding_version}, this version reads "
                f"{known}. Install a newer one: pip install --upgrade historystore"
            )


def check_names(names: Iterable[str]) -> None:
    """Check that a recorder may be asked for these fields: `info` with a key, the others without.

    Raises:
        InvalidValue: one is unknown.
    """
    for name in names:
        root, _, key = name.partition("/")
        if root not in STEP_FIELDS or (root == "info") != bool(key):
            optional = [field for field in STEP_FIELDS if field not in (*REQUIRED_FIELDS, "info")]
            raise InvalidValue(
                f"fields: no step field is called {name!r}, expected some of {', '.join(optional)}, info/<key> "
                f"({', '.join(REQUIRED_FIELDS)} are always recorded). Check the name."
            )


def space_fields(prefix: str, space: spaces.Space[Any]) -> tuple[Field, ...]:
    """Return the fields of a space's values; Dict and Tuple spaces fall into one field an entry, joined by ``/``.

    Text, Sequence, Graph and OneOf spaces have values of no fixed shape: their fields are packed.
    """
    return tuple(_space_field(name, leaf) for name, leaf in leaves(prefix, space))


def leaves(prefix: str, space: spaces.Space[Any]) -> Iterator[tuple[str, spaces.Space[Any]]]:
    """Iterate over the fields of a space's values by name, each with the space of its own values."""
    if isinstance(space, spaces.Dict):
        for key, item in space.spaces.items():
            yield from leaves(_joined(prefix, key), item)
    elif isinstance(space, spaces.Tuple):
        for i, item in enumerate(space.spaces):
            yield from leaves(_joined(prefix, str(i)), item)
    else:
        yield prefix, space


def flatten(prefix: str, space: spaces.Space[Any], batch: Any) -> dict[str, np.ndarray]:
    """Return a batch of a space's values as one array a field, keyed by the names of `space_fields`.

    Values of no fixed shape come as a sequence or as an object array of any shape, and leave as one of bytes.

    Raises:
        InvalidValue: one of those is no value of its space.
    """
    if isinstance(space, spaces.Dict):
        parts = [flatten(_joined(prefix, key), space[key], batch[key]) for key in space.spaces]
    elif isinstance(space, spaces.Tuple):
        parts = [flatten(_joined(prefix, str(i)), item, batch[i]) for i, item in enumerate(space.spaces)]
    elif isinstance(space, VARIABLE):
        return {prefix: _each(lambda value: pack(space, value), batch)}
    else:
        return {prefix: np.asarray(batch)}
    return {name: array for part in parts for name, array in part.items()}


def unflatten(prefix: str, space: spaces.Space[Any], columns: Mapping[str, np.ndarray]) -> Any:
    """Return the batch that `flatten` took apart."""
    if isinstance(space, spaces.Dict):
        return {key: unflatten(_joined(prefix, key), item, columns) for key, item in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(unflatten(_joined(prefix, str(i)), item, columns) for i, item in enumerate(space.spaces))
    if isinstance(space, VARIABLE):
        return _each(lambda data: unpack(space, data), columns[prefix])
    return columns[prefix]


def escape_key(key: str) -> str:
    """Return a key such that it holds no ``/`` and is no relative path, so that it can be part of a field's name."""
    escaped = key.replace("%", "%25").replace("/", "%2F").replace("\x00", "%00")
    return escaped.replace(".", "%2E") if escaped.strip(".") == "" else escaped


def smallest_dtype(dtype: np.dtype[Any], *, low: int, high: int) -> np.dtype[Any]:
    """Return the smallest integer dtype that holds all of `low` to `high`, or `dtype` where none is smaller."""
    for narrow in _NARROW:
        if narrow.itemsize < dtype.itemsize and fits(narrow, low=low, high=high):
            return _little(narrow)
    return dtype


def fits(dtype: np.dtype[Any], *, low: int, high: int) -> bool:
    """Whether an integer dtype holds both values."""
    return bool(np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max)


def _each(function: Callable[[Any], Any], values: Any) -> np.ndarray:
    """Return an object array of what a function makes of each of some values."""
    shape = values.shape if isinstance(values, np.ndarray) else (len(values),)
    results = np.empty(shape, object)
    flat = values.flat if isinstance(values, np.ndarray) else values
    for place, value in enumerate(flat):
        results.flat[place] = function(value)
    return results


def _joined(prefix: str, key: str) -> str:
    return f"{prefix}/{escape_key(key)}"


def _space_field(name: str, space: spaces.Space[Any]) -> Field:
    if isinstance(space, VARIABLE):
        return Field(
            name=name,
            dtype=OBJECT,
            stored_dtype=OBJECT,
            shape=(),
            encoding=PACKED,
            encoding_version=ENCODINGS[PACKED],
        )
    if not isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        raise InvalidValue(f"{name}: {type(space).__name__} cannot be stored. Use one of Gymnasium's own spaces.")
    dtype, shape = _little(np.dtype(space.dtype)), tuple(space.shape or ())
    _check_dtype(name, dtype)
    stored = np.dtype("u1") if dtype.kind == "b" else dtype
    if dtype.kind in "iu" and 0 not in shape:
        low, high = _bounds(space)
        stored = smallest_dtype(dtype, low=low, high=high)
    return Field(name=name, dtype=dtype.str, stored_dtype=stored.str, shape=shape)


def _bounds(space: spaces.Space[Any]) -> tuple[int, int]:
    if isinstance(space, spaces.Box):
        return int(space.low.min()), int(space.high.max())
    if isinstance(space, spaces.Discrete):
        return int(space.start), int(space.start) + int(space.n) - 1
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.start.min()), int((space.start + (space.nvec - 1)).max())
    return 0, 1


def _check_dtype(name: str, dtype: np.dtype[Any]) -> None:
    """Refuse what is no number or flag, and long doubles: how these are stored depends on the processor."""
    if dtype.kind not in "biufc" or re.fullmatch(DTYPES, dtype.str) is None:
        raise InvalidValue(f"{name}: cannot store dtype {dtype}. Give flags or numbers of at most 64 bits a part.")


def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")
