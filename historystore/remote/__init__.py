"""Stores at URLs that fsspec knows: read through a cache on this machine, written by uploading whole files.

A shard is immutable and named by the SHA-256 of its bytes, so a copy of it is as good as itself: it is fetched whole,
checked against its name, kept, and read like any other. An object store has no rename, and needs none here: what does
not fit its name is never read as data.
"""

from historystore.remote.place import RemotePlace

__all__ = ["RemotePlace"]
