"""Room for an extraction: what its shards will take, estimated from those that lie beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.files import require_room, require_writable

if TYPE_CHECKING:
    from features.store import FeatureStore, PlannedShard

FIRST_GUESS = 4096
"""Bytes per sample of a view without any shard yet; low for every encoder, so that nothing is refused without reason."""


def require_store_room(store: FeatureStore, todo: Sequence[PlannedShard]) -> None:
    """Refuse an extraction that cannot be written: before its work is done, not after.

    Raises:
        DataError: The store cannot be written, or the shards will not fit.
    """
    require_writable(store.root)
    needed = sum(p.shard.samples.num_rows * bytes_per_row(store, p) for p in todo)
    require_room(store.root, round(needed), f"an extraction of {len(todo)} shards")


def bytes_per_row(store: FeatureStore, planned: PlannedShard) -> float:
    """Size of both files per sample, over the committed shards of the view."""
    sized = [c for c in store.committed(planned.view) if c.tar_bytes and c.parquet_bytes]
    rows = sum(c.rows for c in sized)
    return sum((c.tar_bytes or 0) + (c.parquet_bytes or 0) for c in sized) / rows if rows else FIRST_GUESS
