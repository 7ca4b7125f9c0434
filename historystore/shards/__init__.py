"""Shards: immutable files that each hold some steps and all that is known about them."""

from historystore.shards.protocol import Profile, ShardReader, ShardTables, open_shard, shard_format, suffixes

__all__ = ["Profile", "ShardReader", "ShardTables", "open_shard", "shard_format", "suffixes"]
