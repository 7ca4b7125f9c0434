"""Numbers that a seed decides for good: what the tasks of an endless family are drawn from."""

import hashlib


def uniforms(key: str, *, num: int) -> list[float]:
    """Return numbers in [0, 1), independent of each other and of those of every other key.

    They are the SHA-256 of `key/0`, `key/1`, ..., which no library's random generator can ever change.
    """
    return [_uniform(f"{key}/{index}") for index in range(num)]


def _uniform(text: str) -> float:
    word = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return (word >> 11) * 2.0**-53  # as many bits as a float holds
