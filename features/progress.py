"""The callback of long work."""

from collections.abc import Callable

RowProgress = Callable[[int], None]
"""Called with the number of rows, samples or shards done since the last call."""
