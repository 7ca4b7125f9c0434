"""Gymnasium spaces of all ten kinds, nested in each other, and values of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st

_DTYPES = (np.uint8, np.int16, np.int64, np.float32, np.float64)


def all_spaces(*, depth: int = 2) -> st.SearchStrategy[spaces.Space[Any]]:
    """Return a strategy for spaces, Dict, Tuple, Sequence and OneOf nested up to a depth."""
    if not depth:
        return st.one_of(_boxes(), _discretes(), _multi_discretes(), _multi_binaries(), _texts(), _graphs())
    inner = all_spaces(depth=depth - 1)
    keys = st.text("ab/%.é", min_size=1, max_size=3)
    return st.one_of(
        inner,
        st.lists(inner, min_size=1, max_size=3).map(spaces.Tuple),
        st.dictionaries(keys, inner, min_size=1, max_size=3).map(lambda parts: spaces.Dict(list(parts.items()))),
        inner.map(spaces.Sequence),
        st.one_of(_boxes(), _discretes()).map(lambda space: spaces.Sequence(space, stack=True)),
        st.lists(inner, min_size=1, max_size=3).map(spaces.OneOf),
    )


def sampled(space: spaces.Space[Any], *, seed: int, num_values: int) -> list[Any]:
    """Return values of a space, the same ones for the same seed."""
    space.seed(seed)
    return [space.sample() for _ in range(num_values)]


def are_equal(left: Any, right: Any) -> bool:
    """Whether two values of a space are the same, to the bit."""
    if isinstance(left, np.ndarray | np.generic):
        return bool(np.asarray(left).tobytes() == np.asarray(right).tobytes()) and left.shape == right.shape
    if isinstance(left, dict):
        return list(left) == list(right) and all(are_equal(value, right[key]) for key, value in left.items())
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(are_equal, left, right))
    return bool(left == right)


@st.composite
def _boxes(draw: st.DrawFn) -> spaces.Box:
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    dtype = draw(st.sampled_from(_DTYPES))
    if np.dtype(dtype).kind == "f":
        low, high = draw(st.sampled_from([(-np.inf, np.inf), (0.0, 1.0), (-1.5, np.inf)]))
    else:
        low, high = draw(st.sampled_from([(0, 5), (0, np.iinfo(dtype).max // 2), (np.iinfo(dtype).min // 2, 7)]))
    return spaces.Box(low, high, shape, dtype)


def _discretes() -> st.SearchStrategy[spaces.Discrete]:
    return st.builds(lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 400), st.integers(-3, 3))


def _multi_discretes() -> st.SearchStrategy[spaces.MultiDiscrete]:
    return st.lists(st.integers(1, 300), min_size=1, max_size=3).map(spaces.MultiDiscrete)


def _multi_binaries() -> st.SearchStrategy[spaces.MultiBinary]:
    return st.one_of(st.integers(1, 4), st.lists(st.integers(1, 3), min_size=1, max_size=2)).map(spaces.MultiBinary)


def _texts() -> st.SearchStrategy[spaces.Text]:
    return st.builds(
        lambda most, charset: spaces.Text(most, min_length=0, charset=charset),
        st.integers(1, 6),
        st.sampled_from(["ab", "zañ√ ", "0"]),
    )


def _graphs() -> st.SearchStrategy[spaces.Graph]:
    nodes = st.one_of(_boxes(), _discretes())
    return st.builds(spaces.Graph, nodes, st.one_of(st.none(), _boxes(), _discretes()))
