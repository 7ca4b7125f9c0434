"""Values of a learner in the middle of its learning as JSON, with their arrays apart, and back into a fresh learner.

What `to_plain` writes is made again by `from_plain`; what is packed here is put *into* what a fresh learner has in its
place, so that whoever else holds the same tensor or object sees it too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from historystore.sb3.describe import Json
from historystore.sb3.plain import NotPlainError, from_plain, to_plain

_WITH_ATTRIBUTES = (ActionNoise, RunningMeanStd, StackedObservations)


class Packer:
    """Turns values into JSON, and gathers their arrays by the path that leads to them."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def pack(self, value: Any, *, path: str) -> Json:
        """Return a value as JSON.

        Raises:
            NotPlainError: it is of no kind that can be packed.
        """
        if isinstance(value, th.Tensor):
            return {"tensor": self._kept(path, value.detach().cpu().numpy())}
        if isinstance(value, np.ndarray):
            axes = _axes(value)
            return {"array": {"name": self._kept(path, value.transpose(axes)), "axes": axes}}
        if isinstance(value, np.generic):
            return {"number": self._kept(path, np.asarray(value))}
        if isinstance(value, _WITH_ATTRIBUTES):
            return {"attributes": self.pack_attributes(value, path=path)}
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {"dict": {key: self.pack(item, path=f"{path}/{key}") for key, item in value.items()}}
        if isinstance(value, (list, deque, tuple)):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [self.pack(item, path=f"{path}/{i}") for i, item in enumerate(value)]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return {"plain": to_plain(value)}
        raise NotPlainError(type(value).__name__)

    def pack_attributes(self, owner: Any, *, path: str, without: Collection[str] = ()) -> dict[str, Json]:
        """Return an object's attributes, without those that cannot be packed: an object of its kind has its own."""
        packed = {}
        for name, value in vars(owner).items():
            if name not in without:
                try:
                    packed[name] = self.pack(value, path=f"{path}/{name}")
                except NotPlainError:
                    continue
        return packed

    def _kept(self, path: str, array: np.ndarray) -> str:
        if array.dtype.kind not in "biuf":
            raise NotPlainError(str(array.dtype))
        self.arrays[path] = np.asarray(array, order="C")
        return path


class Unpacker:
    """Puts packed values back."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays

    def unpack(self, packed: Json, *, into: Any) -> Any:
        """Return a packed value: what is in its place now, changed where that is possible, or a new one."""
        ((kind, content),) = packed.items()
        return getattr(self, f"_{kind}")(content, into)

    def unpack_attributes(self, packed: Mapping[str, Json], *, into: Any) -> None:
        """Put an object's attributes back."""
        for name, content in packed.items():
            setattr(into, name, self.unpack(content, into=getattr(into, name, None)))

    def _plain(self, content: Json, _into: Any) -> Any:
        return from_plain(content)

    def _array(self, content: Mapping[str, Json], _into: Any) -> np.ndarray:
        stored = np.array(self._arrays[content["name"]])
        return stored.transpose(np.argsort(content["axes"])) if content["axes"] else stored

    def _number(self, name: str, _into: Any) -> Any:
        return self._arrays[name][()]

    def _tensor(self, name: str, into: Any) -> th.Tensor:
        tensor = th.from_numpy(np.array(self._arrays[name]))
        if isinstance(into, th.Tensor) and into.shape == tensor.shape and into.dtype == tensor.dtype:
            into.data.copy_(tensor)
            return into
        return tensor

    def _attributes(self, content: Mapping[str, Json], into: Any) -> Any:
        self.unpack_attributes(content, into=into)
        return into

    def _dict(self, content: Mapping[str, Json], into: Any) -> Any:
        places = into if isinstance(into, dict) else {}
        made = {key: self.unpack(item, into=places.get(key)) for key, item in content.items()}
        places.clear()
        places.update(made)
        return places

    def _list(self, content: list[Json], into: Any) -> Any:
        made = self._items(content, into)
        if not isinstance(into, (list, deque)):
            return made
        into.clear()
        into.extend(made)
        return into

    def _tuple(self, content: list[Json], into: Any) -> Any:
        made = self._items(content, into)
        return type(into)(*made) if hasattr(into, "_fields") else tuple(made)

    def _items(self, content: list[Json], into: Any) -> list[Any]:
        places = list(into) if isinstance(into, (list, deque, tuple)) else []
        if len(places) != len(content):
            places = [None] * len(content)
        return [self.unpack(item, into=place) for item, place in zip(content, places, strict=True)]


def _axes(array: np.ndarray) -> list[int]:
    """Return an array's axes as they lie in memory, the widest strides first.

    A network rounds otherwise where an image's channels come first in memory, and VecTransposeImage only turns a view.
    """
    return sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
