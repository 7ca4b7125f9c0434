"""The fixed order in which consecutive seeds get the tasks of a finite family."""

import hashlib
from functools import cache


@cache
def permutation(name: str, version: int, num_tasks: int) -> tuple[int, ...]:
    """Return `P`: the learner of seed `s` gets task `P[s % num_tasks]`.

    The tasks are sorted by the SHA-256 of `name/version/index`, which no library's random generator can ever change.
    """

    def key(index: int) -> bytes:
        return hashlib.sha256(f"{name}/{version}/{index}".encode()).digest()

    return tuple(sorted(range(num_tasks), key=key))
