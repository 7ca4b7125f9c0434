"""Shards: immutable files that each hold some steps and all that is known about them."""

from historystore.shards.protocol import (
    FormatName,
    Profile,
    ShardFormat,
    ShardReader,
    ShardTables,
    format_name,
    open_shard,
    read_tables,
    shard_format,
    suffixes,
)

__all__ = [
    "FormatName",
    "Profile",
    "ShardFormat",
    "ShardReader",
    "ShardTables",
    "format_name",
    "open_shard",
    "read_tables",
    "shard_format",
    "suffixes",
]
