"""The random generators of batched environments: one for each, so that a twin draws what single environments draw."""

from collections.abc import Iterator, Sequence

import numpy as np
from gymnasium.utils import seeding
from jaxtyping import Bool, UInt64

_WORD = 2**64


class Generators:
    """A generator an environment, seeded exactly as Gymnasium's `reset(seed=...)` seeds that of one environment."""

    def __init__(self, num_envs: int) -> None:
        self._generators = [seeding.np_random()[0] for _ in range(num_envs)]

    def of_reset(
        self, mask: Bool[np.ndarray, " num_envs"] | None, seeds: Sequence[int | None] | None
    ) -> Iterator[tuple[int, np.random.Generator]]:
        """Yield number and generator of each environment that is reset (all without a mask), seeded where asked."""
        indices = range(len(self._generators)) if mask is None else np.flatnonzero(mask).tolist()
        for index in indices:
            if seeds is not None and seeds[index] is not None:
                self._generators[index] = seeding.np_random(seeds[index])[0]
            yield index, self._generators[index]

    def state(self) -> UInt64[np.ndarray, "num_envs 6"]:
        """Return where every generator is: state and increment in two words each, and a half-used word if any."""
        rows = []
        for generator in self._generators:
            now = generator.bit_generator.state
            words = [word for value in (now["state"]["state"], now["state"]["inc"]) for word in divmod(value, _WORD)]
            rows.append([*words, now["has_uint32"], now["uinteger"]])
        return np.array(rows, dtype=np.uint64).reshape(len(rows), 6)

    def restore(self, state: UInt64[np.ndarray, "num_envs 6"]) -> None:
        """Go back to a state."""
        for generator, row in zip(self._generators, state.tolist(), strict=True):
            generator.bit_generator.state = {
                "bit_generator": "PCG64",
                "state": {"state": row[0] * _WORD + row[1], "inc": row[2] * _WORD + row[3]},
                "has_uint32": row[4],
                "uinteger": row[5],
            }
