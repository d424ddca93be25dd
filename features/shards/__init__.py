"""Shards on disk: format, commit records, locks."""
