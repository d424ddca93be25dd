"""Stores of any size, written in seconds: random vectors in real shards, a column at a time."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from merloco.features.shards.commit import Commit, commit_path, shard_files
from merloco.features.shards.format import plan_shards, shard_schema, values_digest
from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.samples.schema import Sample, to_table
from merloco.pipelines.samples.table import write_samples
from tests.helpers.store_files import CATALOG

LABELS = {
    "iemocap": ("neu", "hap", "sad", "ang"),
    "meld": ("neutral", "joy", "sadness", "anger"),
    "afew": ("Neutral", "Happy", "Sad", "Angry"),
}
"""Corpus -> native labels of the classes that all have."""


def large_store(
    root: Path, corpora: Sequence[str], rows: int, widths: dict[str, int], tars: bool = True
) -> FeatureStore:
    """A store with `rows` samples of each corpus, all extracted.

    Args:
        root: Folder of the store.
        corpora: Some of `LABELS`.
        rows: Samples per corpus.
        widths: Modality -> width of its view in the light set.
        tars: Whether the shards have tars (a segment of two numbers per sample); queries and training read none.
    """
    store = FeatureStore.open(root, load_catalog(CATALOG), create=True)
    views = store.views("light", list(widths))
    for number, corpus in enumerate(corpora):
        write_samples(root, corpus, _samples(corpus, rows))
        table = store.samples([corpus])
        for modality, view in views.items():
            store.write_view_manifest(view)
            _write_shards(store, view, corpus, table, widths[modality], tars, np.random.default_rng([number, rows]))
    return store


def _samples(corpus: str, rows: int) -> pa.Table:
    splits, native = ("train", "train", "train", "val", "test"), LABELS[corpus]
    return to_table(
        Sample(
            sample_id=f"{corpus}/d{i // 10}/u{i:07d}",
            corpus=corpus,
            split=splits[i // 10 % 5],
            label=native[i * 7 % len(native)],
            dialogue=f"{corpus}/d{i // 10}",
            speaker=f"s{i % 10}",
            audio_path=f"{i}.wav",
            video_path=f"{i}.mp4",
            text=f"sentence {i}",
        )
        for i in range(rows)
    )


def _write_shards(
    store: FeatureStore,
    view: FeatureView,
    corpus: str,
    samples: pa.Table,
    width: int,
    tars: bool,
    generator: np.random.Generator,
) -> None:
    folder, schema = store.folder(view), shard_schema(width)
    segments = _npy(np.zeros((1, 2), dtype=np.float32))
    for shard in plan_shards(corpus, samples, view.modality):
        n = shard.samples.num_rows
        vectors = pa.array(generator.standard_normal(n * width, dtype=np.float32))
        columns = {
            "sample_id": shard.samples["sample_id"],
            "status": pa.repeat("ok", n),
            "n_segments": pa.repeat(pa.scalar(1, pa.int32()), n),
            "decode_errors": pa.repeat(pa.scalar(0, pa.int32()), n),
            "pooled": pa.FixedSizeListArray.from_arrays(vectors, width),
            "shard": pa.repeat(shard.name, n),
        }
        table = pa.table([columns.get(f.name, pa.nulls(n, f.type)) for f in schema], schema=schema)
        tar, parquet = shard_files(folder, shard.name)
        pq.write_table(table, parquet, compression="zstd")
        tar.write_bytes(_tar(shard.samples["sample_id"].to_pylist(), segments) if tars else b"")
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (tar, parquet)]
        commit = Commit(
            *(shard.name, corpus, shard.inputs, n, n, 0, {"ok": n}, width, *digests, {}, {}),
            tar_bytes=tar.stat().st_size,
            parquet_bytes=parquet.stat().st_size,
            values_sha256=values_digest(table),
        )
        commit_path(folder, shard.name).write_text(json.dumps(asdict(commit)), encoding="utf-8")


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _tar(ids: Sequence[str], segments: bytes) -> bytes:
    parts = []
    for sample_id in ids:
        described = json.dumps({"sample_id": sample_id, "n_segments": 1, "decode_errors": 0}).encode()
        for kind, content in (("json", described), ("segments.npy", segments)):
            member = tarfile.TarInfo(f"{sample_id}.{kind}")
            member.size = len(content)
            parts += [member.tobuf(tarfile.USTAR_FORMAT), content, bytes(-len(content) % tarfile.BLOCKSIZE)]
    return b"".join([*parts, bytes(2 * tarfile.BLOCKSIZE)])
