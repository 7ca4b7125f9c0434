"""Array annotations are checked while the tests run: jaxtyping's import hook over both packages, with beartype."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: two test processes share two cores
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
from jaxtyping import install_import_hook

install_import_hook(["historystore", "distill"], "beartype.beartype")

if TYPE_CHECKING:
    from s3_server import S3Server


@pytest.fixture
def remote_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder that holds the `cache` and the `spool` of this test alone."""
    for name in ("cache", "spool"):
        monkeypatch.setenv(f"HISTORYSTORE_{name.upper()}", str(tmp_path / "remote" / name))
    return tmp_path / "remote"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Give an S3 server on loopback."""
    from s3_server import S3Server

    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server, remote_folders: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Give the S3 server, with the environment that leads to it."""
    from s3_server import use_server

    use_server(monkeypatch, s3_server)
    return s3_server
