"""Which commit the code at hand is at."""

from __future__ import annotations

import subprocess
from functools import cache

_GIT_TIMEOUT_S = 2.0


@cache
def git_commit(folder: str) -> str | None:
    """Return the commit that a folder's repository is at; None without git or outside a repository."""
    command = ["git", "-C", folder, "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
