"""Room for an extraction: what its shards will take, estimated from those that lie beside them."""

from __future__ import annotations

from collections.abc import Sequence

from merloco.features.store import TO_DO, FeatureStore, PlannedShard
from merloco.features.views import FeatureView
from merloco.pipelines.files.atomic import require_writable
from merloco.pipelines.files.space import require_space

FIRST_GUESS = 4096
"""Bytes per sample of a view without any shard yet; low for every encoder: nothing is refused without reason."""


def require_store_room(store: FeatureStore, planned: Sequence[PlannedShard]) -> None:
    """Refuse an extraction that cannot be written: before its work is done, not after.

    Raises:
        DataError: The store cannot be written, or the shards will not fit.
    """
    todo = [p for p in planned if p.state in TO_DO]
    sizes = {view.name: bytes_per_row(store, view) for view in {p.view.name: p.view for p in todo}.values()}
    require_writable(store.root)
    needed = sum(p.shard.samples.num_rows * sizes[p.view.name] for p in todo)
    require_space(store.root, round(needed), f"an extraction of {len(todo)} shards")


def bytes_per_row(store: FeatureStore, view: FeatureView) -> float:
    """Size of both files per sample, over the committed shards of the view."""
    commits = store.committed(view)
    sizes = [(c.tar_bytes + c.parquet_bytes, c.rows) for c in commits if c.tar_bytes and c.parquet_bytes]
    rows = sum(count for _, count in sizes)
    return sum(size for size, _ in sizes) / rows if rows else FIRST_GUESS
