"""merloco from Python: what the command line does, into the same store."""

from merloco.flows.api.store import Arrays, Store
from merloco.flows.api.torch_data import PooledDataset, SegmentDataset, collate_segments

__all__ = ["Arrays", "PooledDataset", "SegmentDataset", "Store", "collate_segments"]
