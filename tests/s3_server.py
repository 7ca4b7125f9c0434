"""A real S3 server on a free port of the loopback interface, and what a client needs to find it."""

from __future__ import annotations

import itertools
import logging
import os
from urllib.request import Request, urlopen

import fsspec
import pytest
from moto.server import ThreadedMotoServer

_NUMBERS = itertools.count()


class S3Server:
    """The server; stopped and started again on the same port it still has everything, as a disk would."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        _, self._port = self._server.get_host_and_port()

    @property
    def url(self) -> str:
        """The server's own address."""
        return f"http://127.0.0.1:{self._port}"

    def stop(self) -> None:
        """Refuse every connection from now on."""
        self._server.stop()

    def start(self) -> None:
        """Answer again."""
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()

    def new_bucket(self) -> str:
        """Make a bucket and return its URL."""
        name = f"bucket-{os.getpid()}-{next(_NUMBERS)}"
        request = Request(f"{self.url}/{name}", method="PUT")
        urlopen(request).close()
        return f"s3://{name}"


def use_server(monkeypatch: pytest.MonkeyPatch, server: S3Server) -> None:
    """Let this process and its children talk to the server."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def objects(url: str) -> dict[str, bytes]:
    """Return what is below a URL, by name relative to it; asked past our own code."""
    system, root = fsspec.core.url_to_fs(url)
    system.invalidate_cache()
    found = [name for name in system.find(root) if name != root]  # S3 finds a prefix with nothing below it, too
    return {name[len(root) + 1 :]: system.cat_file(name) for name in found}


def put_object(url: str, data: bytes) -> None:
    """Put one object, whatever it is."""
    system, path = fsspec.core.url_to_fs(url)
    system.pipe_file(path, data)
