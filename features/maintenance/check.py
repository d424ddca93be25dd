"""`merloco check`: every file of a store against its record, the samples table and the other shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from merloco.features.progress import RowProgress
from merloco.features.query.views import view_folders
from merloco.features.runs import read_config, run_folders
from merloco.features.shards.commit import Commit, commits, verify_files
from merloco.features.shards.format import MISSING, OK, Shard, lost_media
from merloco.features.shards.tar import UnsafeNameError, read_array, tar_files
from merloco.features.store import FeatureStore
from merloco.pipelines.errors import DataError
from merloco.pipelines.files.atomic import TEMPORARY, temporary_files
from merloco.pipelines.files.hashing import canonical_json, sha256_text
from merloco.pipelines.samples.table import ingested, ingested_table
from merloco.pipelines.samples.tombstones import read_tombstones
from merloco.pipelines.samples.transcripts import read_transcripts

ERROR, WARNING = "error", "warning"
AGAIN = "remove the three files of the shard and run `merloco extract`"
VERIFY = "run `merloco extract --verify`: it makes the shard again"
COLLECT = "run `merloco gc` to see what can go"
CODES = {
    "samples": (ERROR, "run `merloco ingest` again"),
    "duplicate": (ERROR, AGAIN),
    "broken_commit": (ERROR, "remove the record and run `merloco extract`"),
    "missing_file": (ERROR, VERIFY),
    "hash": (ERROR, VERIFY),
    "count": (ERROR, AGAIN),
    "dimension": (ERROR, AGAIN),
    "not_finite": (ERROR, AGAIN),
    "tar_ids": (ERROR, AGAIN),
    "segments": (ERROR, AGAIN),
    "unsafe_name": (ERROR, "remove the tar: merloco did not write it"),
    "fingerprint": (ERROR, "restore view.json, or remove the folder and run `merloco extract`"),
    "deleted": (ERROR, "run `merloco delete --sample` for it again"),
    "run": (ERROR, "remove the folder and train again"),
    "no_definition": (WARNING, "nothing: the next extraction into this view writes it"),
    "leftover": (WARNING, COLLECT),
    "orphan": (WARNING, COLLECT),
    "superseded": (WARNING, COLLECT),
    "unasked": (WARNING, COLLECT),
    "stale": (WARNING, "run `merloco extract`"),
    "lost": (
        ERROR,
        "run `merloco extract` with the release in place, or `merloco ingest` if the files are gone for good",
    ),
}
"""Code -> severity and what to do. An `error` means that data is wrong or lost; a `warning` is safe as it is."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or worth knowing."""

    code: str
    where: str
    """Path relative to the store."""
    message: str

    @property
    def severity(self) -> str:
        """`error` (data is wrong or lost) or `warning` (safe, but not as it should be)."""
        return CODES[self.code][0]

    @property
    def next_step(self) -> str:
        """What to do about it."""
        return CODES[self.code][1]


FINDINGS_COLUMNS = pa.schema([(n, pa.string()) for n in ("severity", "code", "where", "message", "next_step")])


def findings_rows(findings: list[Finding]) -> pa.Table:
    """Findings as a table of `FINDINGS_COLUMNS`."""
    rows = [{name: getattr(finding, name) for name in FINDINGS_COLUMNS.names} for finding in findings]
    return pa.Table.from_pylist(rows, schema=FINDINGS_COLUMNS)


def check_store(store: FeatureStore, progress: RowProgress | None = None) -> list[Finding]:
    """Check every file of the store; no finding means that all of it can be trusted. `progress` counts shards."""
    broken = list(_samples(store))
    findings = [*_leftovers(store.root), *broken]
    planned = cache(store.planned_shards)  # once for all views of a modality
    for _, folder, current in view_folders(store):
        findings += _folder(store, folder, progress)
        if not current:
            where = str(folder.relative_to(store.root))
            findings.append(Finding("superseded", where, "no view of the catalog has this fingerprint"))
        elif not broken:
            findings += _stale(store, folder, planned)
    return findings + list(_runs(store))


def _leftovers(root: Path) -> Iterator[Finding]:
    writers = {"dead": "killed writer", "living": "writer at work", "elsewhere": "writer on another host"}
    for path, state in temporary_files(root):
        yield Finding("leftover", str(path.relative_to(root)), f"temporary_files file of a {writers[state]}")


def _samples(store: FeatureStore) -> Iterator[Finding]:
    """Samples tables that cannot be read, hold an id twice, or hold what was deleted."""
    for name in ingested(store.root):
        where = f"samples/{name}.parquet"
        try:
            ids = ingested_table(store.root, name)["sample_id"]
            transcribed = [line.sample_id for line in read_transcripts(store.root, name)]
        except DataError as error:
            yield Finding("samples", where, str(error))
            continue
        if len(ids) != len(ids.unique()):
            yield Finding("samples", where, f"{len(ids) - len(ids.unique())} sample ids occur more than once")
        yield from _deleted(store, name, ids.to_pylist(), where)
        yield from _deleted(store, name, transcribed, f"transcripts/{name}.jsonl")


def _deleted(store: FeatureStore, corpus: str, ids: list[str], where: str) -> Iterator[Finding]:
    present = sorted(read_tombstones(store.root, corpus).samples.intersection(ids))
    if present:
        yield Finding("deleted", where, f"{len(present)} deleted samples are here, the first {present[0]}")


def _folder(store: FeatureStore, folder: Path, progress: RowProgress | None) -> Iterator[Finding]:
    where = folder.relative_to(store.root)
    try:
        definition = json.loads((folder / "view.json").read_text(encoding="utf-8"))["definition"]
        if sha256_text(canonical_json(definition))[:16] != folder.name:
            yield Finding("fingerprint", f"{where}/view.json", "the definition does not have the folder's fingerprint")
    except FileNotFoundError:
        if any(folder.glob("*.commit.json")):
            yield Finding("no_definition", f"{where}/view.json", "nothing here says what the fingerprint stands for")
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Finding("fingerprint", f"{where}/view.json", f"no definition of a view ({error})")
    try:
        done = commits(folder)
    except DataError as error:
        yield Finding("broken_commit", str(where), str(error))
        return
    names = {commit.shard for commit in done}
    for path in sorted(folder.glob("*.tar")) + sorted(folder.glob("*.parquet")):
        if path.stem not in names and not path.name.startswith(TEMPORARY):
            yield Finding("orphan", str(path.relative_to(store.root)), "no commit record: it does not exist")
    seen: dict[str, str] = {}
    for commit in done:
        place = f"{where}/{commit.shard}"
        problems = list(_check_shard(folder, commit))
        if progress:
            progress(1)
        yield from (Finding(code, place, message) for code, message in problems)
        if problems:
            continue
        ids = pq.read_table(folder / f"{commit.shard}.parquet", columns=["sample_id"])["sample_id"].to_pylist()
        repeated = [sample_id for sample_id in ids if sample_id in seen]
        if repeated:
            message = f"{len(repeated)} samples are in other shards too, the first {repeated[0]} in {seen[repeated[0]]}"
            yield Finding("duplicate", place, message)
        seen.update(dict.fromkeys(ids, commit.shard))
        yield from _deleted(store, commit.corpus, ids, place)


def _check_shard(folder: Path, commit: Commit) -> Iterator[tuple[str, str]]:
    """Code and message of every problem; after a file that is missing or not the committed one, nothing more."""
    problem = verify_files(folder, commit, verify=True)
    if problem is not None:
        yield "missing_file" if problem.endswith("is not there") else "hash", problem
        return
    table = pq.read_table(folder / f"{commit.shard}.parquet")
    pooled = table["pooled"]
    ok = table.filter(pc.equal(table["status"], OK))
    if table.num_rows != commit.rows or ok.num_rows != commit.ok:
        yield "count", f"{table.num_rows} rows, {ok.num_rows} ok; committed were {commit.rows} and {commit.ok}"
    if pooled.type != pa.list_(pa.float32(), commit.pooled_dim):
        yield "dimension", f"pooled is {pooled.type}; committed was a width of {commit.pooled_dim}"
    elif not np.isfinite(pooled.drop_null().combine_chunks().flatten().to_numpy()).all():
        yield "not_finite", "pooled vectors hold NaN or infinity"
    counts = dict(zip(ok["sample_id"].to_pylist(), ok["n_segments"].to_pylist(), strict=True))
    yield from _check_tar(folder / f"{commit.shard}.tar", counts)


def _check_tar(path: Path, counts: dict[str, int]) -> Iterator[tuple[str, str]]:
    """The tar holds finite segments of exactly the samples that are ok, as many as the table says."""
    keys = []
    try:
        for key, kind, content in tar_files(path):
            if kind != "segments.npy":
                continue
            keys.append(key)
            segments = read_array(content, f"{path.name}, {key}")
            if len(segments) != counts.get(key, len(segments)):
                yield "segments", f"{key}: {len(segments)} segments in the tar, {counts[key]} in the table"
            elif not np.isfinite(segments).all():
                yield "not_finite", f"{key}: segments hold NaN or infinity"
    except DataError as error:
        yield "unsafe_name" if isinstance(error, UnsafeNameError) else "segments", str(error)
        return
    if keys != list(counts):
        yield "tar_ids", "the tar does not hold the segments of exactly the samples that are ok"


def _stale(store: FeatureStore, folder: Path, planned_shards: Callable[[str], dict[str, Shard]]) -> Iterator[Finding]:
    """Shards that were made from other samples than the table now holds, or without media that the ingest saw."""
    modality = store.modality(folder) or ""
    try:
        done, planned = commits(folder), planned_shards(modality) if modality else {}
    except DataError:
        return  # a finding of the folder already
    for commit in done:
        where = f"{folder.relative_to(store.root)}/{commit.shard}"
        if commit.shard not in planned:
            yield Finding("unasked", where, "the samples table no longer asks for this shard")
        elif planned[commit.shard].inputs != commit.inputs:
            yield Finding("stale", where, "the samples changed since")
        elif n := lost_media(planned[commit.shard].samples, modality, commit.statuses.get(MISSING, 0)):
            yield Finding("lost", where, f"the media of {n} samples were not there, although the ingest saw them")


def _runs(store: FeatureStore) -> Iterator[Finding]:
    for folder in run_folders(store.root):
        where = str(folder.relative_to(store.root))
        try:
            corpora = read_config(folder)["config"]["test"]
            for path in sorted(folder.glob("*.parquet")):
                table = pq.read_table(path)
                if "sample_id" in table.column_names:
                    for name in corpora:
                        yield from _deleted(store, name, table["sample_id"].to_pylist(), f"{where}/{path.name}")
        except (DataError, KeyError, TypeError, pa.ArrowInvalid, OSError) as error:
            yield Finding("run", where, str(error))
