from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from historystore.documents import canonical_json
from historystore.errors import InvalidValue
from historystore.fields import flatten, smallest_dtype, space_fields, unflatten
from historystore.spaces import space_from_json, space_to_json

LEAVES = [
    spaces.Box(-np.inf, np.inf, (3,)),
    spaces.Box(0, 255, (4, 4, 3), np.uint8),
    spaces.Box(np.array([0.1, -np.inf], "f4"), np.array([1 / 3, np.inf], "f4")),
    spaces.Box(np.array([-1, 2]), np.array([2**62, 3]), dtype=np.int64),
    spaces.Box(0, 1, (), np.float64),
    spaces.Box(0, 1, (0, 2)),
    spaces.Discrete(5),
    spaces.Discrete(5, start=-3),
    spaces.Discrete(300, dtype=np.int32),
    spaces.MultiDiscrete([9, 9]),
    spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 0], [0, -2]], dtype=np.int32),
    spaces.MultiBinary(4),
    spaces.MultiBinary([2, 3]),
]
SHAPELESS = [
    spaces.Text(4, min_length=0, charset="añ√ "),
    spaces.Sequence(spaces.Discrete(2), stack=True),
    spaces.Graph(spaces.Box(0, 1, (1,)), None),
    spaces.Graph(spaces.Box(0, 1, (1,)), spaces.Discrete(3)),
    spaces.OneOf([spaces.Discrete(2), spaces.Box(0, 1, (1,))]),
]
NESTED = [
    spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Tuple([spaces.Discrete(3), spaces.Box(0, 1, (2,))])}),
    spaces.Dict([("z", spaces.Discrete(2)), ("a/b", spaces.Dict({"..": spaces.Discrete(2)}))]),
]


@pytest.mark.parametrize("space", [*LEAVES, *SHAPELESS, *NESTED], ids=str)
def test_a_space_survives_the_way_through_json(space: spaces.Space[Any]) -> None:
    text = canonical_json(space_to_json(space))
    again = space_from_json(json.loads(text))
    assert again == space
    assert again.dtype == space.dtype
    assert canonical_json(space_to_json(again)) == text
    if isinstance(space, spaces.Box):
        assert isinstance(again, spaces.Box)
        assert again.low.tobytes() == space.low.tobytes()
        assert again.high.tobytes() == space.high.tobytes()
    if isinstance(space, spaces.Dict):
        assert isinstance(again, spaces.Dict)
        assert list(again.spaces) == list(space.spaces)


@settings(max_examples=50, deadline=None)
@given(bounds=npst.arrays(np.float32, (2, 5), elements=st.floats(width=32, allow_nan=False)))
def test_the_bounds_of_a_box_keep_every_bit(bounds: np.ndarray) -> None:
    low, high = bounds.min(0), bounds.max(0)
    again = space_from_json(json.loads(canonical_json(space_to_json(spaces.Box(low, high)))))
    assert isinstance(again, spaces.Box)
    assert (again.low.tobytes(), again.high.tobytes()) == (low.tobytes(), high.tobytes())


@pytest.mark.parametrize("doc", [{}, {"kind": "Sphere"}, {"kind": "Box"}, {"kind": "Discrete", "n": -1, "start": 0}])
def test_what_describes_no_space_is_refused(doc: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match="not a description of a space"):
        space_from_json(doc)


def test_a_space_of_ones_own_is_refused() -> None:
    class Mine(spaces.Space[int]):
        pass

    with pytest.raises(InvalidValue, match=r"Mine cannot be stored\. Use one of Box, Discrete"):
        space_to_json(Mine())


def test_integers_get_the_smallest_dtype_that_the_bounds_allow() -> None:
    stored = {str(space): [field.stored_dtype for field in space_fields("x", space)] for space in LEAVES}
    assert list(stored.values()) == [
        ["<f4"],
        ["|u1"],
        ["<f4"],
        ["<i8"],
        ["<f8"],
        ["<f4"],
        ["|u1"],
        ["|i1"],
        ["<u2"],
        ["|u1"],
        ["|i1"],
        ["|i1"],
        ["|i1"],
    ]


@given(low=st.integers(-(2**63), 2**63 - 1), high=st.integers(-(2**63), 2**63 - 1))
def test_the_smallest_dtype_holds_both_bounds_and_none_smaller_does(low: int, high: int) -> None:
    low, high = sorted((low, high))
    dtype = smallest_dtype(np.dtype("i8"), low=low, high=high)
    assert np.array([low, high], dtype).tolist() == [low, high]
    for code in ("u1", "i1", "u2", "i2", "u4", "i4"):
        info = np.iinfo(code)
        assert np.dtype(code).itemsize >= dtype.itemsize or not info.min <= low <= high <= info.max


@pytest.mark.parametrize("space", [*LEAVES, *NESTED], ids=str)
def test_a_batch_of_values_falls_into_fields_and_comes_together_again(space: spaces.Space[Any]) -> None:
    from gymnasium.vector.utils import batch_space

    batch = batch_space(space, 3)
    batch.seed(0)
    values = batch.sample()
    columns = flatten("x", space, values)
    fields = space_fields("x", space)
    assert [(name, array.shape[1:], array.dtype.str) for name, array in columns.items()] == [
        (field.name, field.shape, field.dtype) for field in fields
    ]
    again = flatten("x", space, unflatten("x", space, columns))
    assert all(again[name].tobytes() == array.tobytes() for name, array in columns.items())
