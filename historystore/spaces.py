"""Gymnasium spaces as JSON and back, all ten kinds.

A bound is written as one number where it is the same everywhere, else as nested lists; an infinite one as ``"inf"`` or
``"-inf"``. Seeds and generators are not part of a space's description.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from gymnasium import spaces
from pydantic import ValidationError

from historystore.errors import InvalidValue
from historystore.space_documents import SPACE

Json = dict[str, Any]


def space_to_json(space: spaces.Space[Any]) -> Json:
    """Return a space as JSON.

    Raises:
        InvalidValue: the space is of none of Gymnasium's kinds.
    """
    for kind, (cls, to_json, _) in _KINDS.items():
        if isinstance(space, cls):
            return {"kind": kind, **to_json(space)}
    raise InvalidValue(f"space: {type(space).__name__} cannot be stored. Use one of {', '.join(_KINDS)}.")


def space_from_json(doc: Json) -> spaces.Space[Any]:
    """Return the space that some JSON describes.

    Raises:
        InvalidValue: the JSON describes no space.
    """
    try:
        SPACE.validate_python(doc)
        return _parsed(doc)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"])) or "it"
        reason = f"{place} is not valid, {error.errors()[0]['msg']}"
    except (KeyError, TypeError, ValueError, AssertionError, RecursionError) as error:
        reason = " ".join(repr(error).split())
    raise InvalidValue(f"space: not a description of a space, {reason}. Restore the file from a copy.")


def _parsed(doc: Json) -> spaces.Space[Any]:
    """Return the space of a document whose form was checked."""
    return _KINDS[doc["kind"]][2](doc)


def _array_to_json(array: np.ndarray) -> Any:
    # Compared as bytes, because -0.0 equals 0.0.
    if array.size > 1 and array.tobytes() == array.flat[0].tobytes() * array.size:
        return _listed(array.flat[0].item())
    return _listed(array.tolist())


def _listed(value: Any) -> Any:
    if isinstance(value, list):
        return [_listed(item) for item in value]
    return repr(value) if value in (float("inf"), float("-inf")) else value


def _array_from_json(value: Any, *, shape: Iterable[int], dtype: str) -> np.ndarray:
    shape = tuple(shape)
    if 0 in shape:
        return np.zeros(shape, dtype)  # nested lists of nothing do not tell all of their shape
    return np.broadcast_to(np.array(_unlisted(value), dtype=dtype), shape).copy()


def _unlisted(value: Any) -> Any:
    if isinstance(value, list):
        return [_unlisted(item) for item in value]
    return float(value) if isinstance(value, str) else value


def _box_to_json(space: spaces.Box) -> Json:
    low, high = _array_to_json(space.low), _array_to_json(space.high)
    return {"dtype": space.dtype.str, "shape": list(space.shape), "low": low, "high": high}


def _box_from_json(doc: Json) -> spaces.Box:
    low, high = (_array_from_json(doc[key], shape=doc["shape"], dtype=doc["dtype"]) for key in ("low", "high"))
    return spaces.Box(low, high, shape=tuple(doc["shape"]), dtype=np.dtype(doc["dtype"]).type)


def _discrete_to_json(space: spaces.Discrete) -> Json:
    return {"dtype": np.dtype(space.dtype).str, "n": int(space.n), "start": int(space.start)}


def _discrete_from_json(doc: Json) -> spaces.Discrete:
    space = spaces.Discrete(doc["n"], start=doc["start"])
    # Releases before 1.1 know no dtype argument; int64 is what they have.
    return space if doc["dtype"] == "<i8" else spaces.Discrete(doc["n"], start=doc["start"], dtype=doc["dtype"])


def _multi_discrete_to_json(space: spaces.MultiDiscrete) -> Json:
    return {"dtype": np.dtype(space.dtype).str, "nvec": space.nvec.tolist(), "start": _array_to_json(space.start)}


def _multi_discrete_from_json(doc: Json) -> spaces.MultiDiscrete:
    dtype: np.dtype[Any] = np.dtype(doc["dtype"])
    nvec = np.array(doc["nvec"], dtype=dtype)
    start = _array_from_json(doc["start"], shape=nvec.shape, dtype=doc["dtype"])
    return spaces.MultiDiscrete(nvec, dtype=dtype.type, start=start)


def _multi_binary_to_json(space: spaces.MultiBinary) -> Json:
    return {"n": int(space.n) if isinstance(space.n, (int, np.integer)) else list(map(int, space.n))}


def _multi_binary_from_json(doc: Json) -> spaces.MultiBinary:
    return spaces.MultiBinary(doc["n"])


def _text_to_json(space: spaces.Text) -> Json:
    charset = "".join(space.character_list)  # in the space's order: what it samples depends on it
    return {"min_length": space.min_length, "max_length": space.max_length, "charset": charset}


def _text_from_json(doc: Json) -> spaces.Text:
    return spaces.Text(doc["max_length"], min_length=doc["min_length"], charset=doc["charset"])


def _dict_to_json(space: Any) -> Json:
    if not all(isinstance(key, str) for key in space.spaces):
        raise InvalidValue(f"space: a Dict's keys must be text, got {list(space.spaces)}. Rename them.")
    return {"spaces": [[key, space_to_json(value)] for key, value in space.spaces.items()]}


def _dict_from_json(doc: Json) -> spaces.Space[Any]:
    # A list of pairs keeps the order that the space was made with; a plain dict would be sorted.
    return spaces.Dict([(key, _parsed(value)) for key, value in doc["spaces"]])


def _many_to_json(space: Any) -> Json:
    return {"spaces": [space_to_json(item) for item in space.spaces]}


def _tuple_from_json(doc: Json) -> spaces.Space[Any]:
    return spaces.Tuple([_parsed(item) for item in doc["spaces"]])


def _one_of_from_json(doc: Json) -> spaces.Space[Any]:
    return spaces.OneOf([_parsed(item) for item in doc["spaces"]])


def _sequence_to_json(space: spaces.Sequence) -> Json:
    return {"space": space_to_json(space.feature_space), "stack": bool(space.stack)}


def _sequence_from_json(doc: Json) -> spaces.Sequence:
    return spaces.Sequence(_parsed(doc["space"]), stack=doc["stack"])


def _graph_to_json(space: spaces.Graph) -> Json:
    edge = None if space.edge_space is None else space_to_json(space.edge_space)
    return {"node_space": space_to_json(space.node_space), "edge_space": edge}


def _graph_from_json(doc: Json) -> spaces.Graph:
    edge = None if doc["edge_space"] is None else _parsed(doc["edge_space"])
    return spaces.Graph(_parsed(doc["node_space"]), edge)


_KINDS: dict[str, tuple[type, Callable[[Any], Json], Callable[[Json], spaces.Space[Any]]]] = {
    "Box": (spaces.Box, _box_to_json, _box_from_json),
    "Discrete": (spaces.Discrete, _discrete_to_json, _discrete_from_json),
    "MultiDiscrete": (spaces.MultiDiscrete, _multi_discrete_to_json, _multi_discrete_from_json),
    "MultiBinary": (spaces.MultiBinary, _multi_binary_to_json, _multi_binary_from_json),
    "Text": (spaces.Text, _text_to_json, _text_from_json),
    "Dict": (spaces.Dict, _dict_to_json, _dict_from_json),
    "Tuple": (spaces.Tuple, _many_to_json, _tuple_from_json),
    "OneOf": (spaces.OneOf, _many_to_json, _one_of_from_json),
    "Sequence": (spaces.Sequence, _sequence_to_json, _sequence_from_json),
    "Graph": (spaces.Graph, _graph_to_json, _graph_from_json),
}
