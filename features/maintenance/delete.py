"""`merloco delete`: a person leaves samples, shards, predictions and findings, and does not come back.

Order of operations, so that running it again after a kill completes it: the tombstones first (from then on nobody reads
the person and no writer commits anything of theirs), then shards, tables of runs and findings, transcripts, and last
the samples table, which says what the shards were before. Everything on the list is
applied every time; what is gone already costs a look at the ids.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from merloco.features.maintenance.targets import DeletionTarget
from merloco.features.progress import RowProgress
from merloco.features.query.index import INDEX, index_rows
from merloco.features.runs import read_config, run_folders
from merloco.features.shards.commit import Commit, commit_path, commits, read_commit
from merloco.features.shards.format import plan_shards
from merloco.features.shards.locks import active_locks, shard_lock
from merloco.features.shards.rewrite import prune_shard
from merloco.features.store import FeatureStore
from merloco.pipelines.checks.findings import findings_path
from merloco.pipelines.corpora.base import Parsed, RowError
from merloco.pipelines.errors import BrokenFileError, DataError
from merloco.pipelines.files.atomic import remove, remove_temporary_files, temporary_files, walk
from merloco.pipelines.files.formats import read_parquet, write_parquet
from merloco.pipelines.samples.audit import DELETED, audit_path, make_audit, read_audit, write_audit
from merloco.pipelines.samples.schema import from_table
from merloco.pipelines.samples.table import ingested_table, samples_path, write_samples
from merloco.pipelines.samples.tombstones import (
    Tombstones,
    add_tombstones,
    drop_rows,
    locked_tombstones,
    read_tombstones,
    speaker_key,
)
from merloco.pipelines.samples.transcripts import drop_transcripts, join_transcripts, read_transcripts, transcripts_path


@dataclass(frozen=True, slots=True)
class DeletedFile:
    """Rows that a deletion takes out of one file of the store."""

    where: str
    """Path relative to the store."""
    rows: int


def dry_run(store: FeatureStore, target: DeletionTarget) -> list[DeletedFile]:
    """What a deletion would take out of the store; nothing is changed."""
    root, corpus = store.root, target.corpus
    ids = target.samples | read_tombstones(root, corpus).samples
    shards = [folder / f"{commit.shard}.parquet" for folder, commit in _shards(root, corpus)]
    paths = [samples_path(root, corpus), *shards, *_tables(root)]
    files = [(path, rows) for path in paths if (rows := _count_rows(path, ids))]
    if rows := sum(line.sample_id in ids for line in read_transcripts(root, corpus)):
        files.append((transcripts_path(root, corpus), rows))
    return [_deleted_file(root, path, rows) for path, rows in (*files, *_removable(root, corpus, ids))]


def runs_trained_on(store: FeatureStore, corpora: Collection[str]) -> list[str]:
    """Folders of runs and fine-tuned encoders with weights that were fitted to one of the corpora."""
    trained = [(folder, read_config(folder)["config"].get("train", ())) for folder in run_folders(store.root)]
    for path in sorted((store.root / "encoders").glob("*/encoder.json")):
        encoder = json.loads(path.read_text(encoding="utf-8"))["encoder"]
        trained.append((path.parent, encoder.get("trained_on", ())))
    return [str(folder.relative_to(store.root)) for folder, names in trained if set(names) & set(corpora)]


def delete(store: FeatureStore, target: DeletionTarget, progress: RowProgress | None = None) -> list[DeletedFile]:
    """Take samples out of the store and put them on its deletion list; returns what was removed, file by file.

    Raises:
        DataError: Somebody is writing to the store, or a commit record is broken; nothing was changed then.
    """
    _refuse_writers(store.root)
    corpus = target.corpus
    removed = _apply(store, corpus, None)  # what an interrupted deletion left to do
    with locked_tombstones(store.root, corpus, exclusive=True) as listed:
        # Looked up again: an ingest may have brought more of a person since they were selected.
        person = Tombstones(speakers=frozenset(speaker_key(corpus, name) for name in target.speakers))
        samples = target.samples | person.ids_in(ingested_table(store.root, corpus))
        known = all(listed.contains_speaker(corpus, name) for name in target.speakers)
        if not (samples <= listed.samples and known):
            # Findings name samples and sometimes speakers: `merloco check samples` writes them anew.
            findings_path(store.root, corpus).unlink(missing_ok=True)
            add_tombstones(store.root, corpus, samples, target.speakers)
    return removed + _apply(store, corpus, progress)


def _refuse_writers(root: Path) -> None:
    """What somebody extracts at this moment from the samples as they were could hold the deleted rows again."""
    remove_temporary_files(root)
    for folder, shard in active_locks(root):
        raise DataError(f"{folder / shard}: is being extracted: delete when the extraction has finished")
    for path, writer in temporary_files(root):
        where = "" if writer == "living" else " on another host (remove the file if that writer is dead)"
        raise DataError(f"{path}: is being written{where}: delete when its writer has finished")


def _apply(store: FeatureStore, corpus: str, progress: RowProgress | None) -> list[DeletedFile]:
    """Bring every file of the store in line with the deletion list of a corpus."""
    root = store.root
    deleted = read_tombstones(root, corpus)
    samples = ingested_table(root, corpus)
    ids = deleted.samples | deleted.ids_in(samples)
    if not ids:
        return []
    earlier = ids - set(samples["sample_id"].to_pylist())
    samples = join_transcripts(root, corpus, samples)  # as plans see it

    @cache
    def planned(modality: str | None) -> tuple[dict[str, str], dict[str, str]]:
        """Shard -> hash of its inputs, before and after this deletion."""
        plans = (plan_shards(corpus, samples, modality, out) if modality else [] for out in (earlier, ids))
        before, after = ({shard.name: shard.inputs for shard in plan} for plan in plans)
        return before, after

    removed = []
    for folder, commit in list(_shards(root, corpus)):
        path = folder / f"{commit.shard}.parquet"
        if not _count_rows(path, ids):
            continue
        before, after = planned(store.modality(folder))
        with _require_shard_lock(folder, commit.shard):
            current, rows = read_commit(folder, commit.shard), _count_rows(path, ids)
            if current is None or not rows:  # an extractor was faster, and obeyed the list
                continue
            fresh = before.get(current.shard) == current.inputs  # a shard that was out of date stays out of date
            prune_shard(folder, current, ids, after.get(current.shard, "") if fresh else current.inputs)
        removed.append(_deleted_file(root, path, rows))
        if progress:
            progress(1)
    _remove_orphans(root, corpus)
    with locked_tombstones(root, corpus, exclusive=True):  # a trainer may be about to replace a run
        for path in _tables(root):
            if rows := _count_rows(path, ids):
                write_parquet(path, drop_rows(read_parquet(path), ids))
                removed.append(_deleted_file(root, path, rows))
    with locked_tombstones(root, corpus, exclusive=True):  # nobody copies shards into an index meanwhile
        remove_temporary_files(root / "views")
        for path, rows in _removable(root, corpus, ids):
            remove(path)
            removed.append(_deleted_file(root, path, rows))
        removed += _rewrite_samples(store, corpus, ids)
    return removed


def _rewrite_samples(store: FeatureStore, corpus: str, ids: Collection[str]) -> Iterator[DeletedFile]:
    """Take samples out of the transcripts and of the samples table as they are now; nobody else writes meanwhile."""
    root = store.root
    if rows := drop_transcripts(root, corpus, ids):
        yield _deleted_file(root, transcripts_path(root, corpus), rows)
    samples = ingested_table(root, corpus)
    left = drop_rows(samples, ids)
    if rows := samples.num_rows - left.num_rows:
        _recount(store, corpus, left)
        write_samples(root, corpus, left)
        yield _deleted_file(root, samples_path(root, corpus), rows)


@contextmanager
def _require_shard_lock(folder: Path, shard: str) -> Iterator[None]:
    with shard_lock([folder], shard) as acquired:
        if not acquired:
            raise DataError(f"{folder / shard}: is being extracted: run the same command again later")
        yield


def _shards(root: Path, corpus: str) -> Iterator[tuple[Path, Commit]]:
    """Committed shards of a corpus in every fingerprint of every view, whether the catalog still names it or not."""
    for folder in sorted(path for path in (root / "views").glob("*/*") if path.is_dir()):
        yield from ((folder, commit) for commit in commits(folder) if commit.corpus == corpus)


def _tables(root: Path) -> list[Path]:
    """Tables of runs and whatever else keeps rows by sample id beside samples and views."""
    tables = []
    for path in walk(root):
        if path.suffix != ".parquet" or path.relative_to(root).parts[0] in ("samples", "views"):
            continue
        with suppress(FileNotFoundError):  # a preview takes no lock: a run may make way for a new one
            if "sample_id" in pq.read_schema(path).names:
                tables.append(path)
    return tables


def _removable(root: Path, corpus: str, ids: Collection[str]) -> Iterator[tuple[Path, int]]:
    """What goes as a whole: what merloco makes again (an index, decoded inputs), and files that an ingest set aside.

    Yields:
        Path and rows; a broken file may hold anybody and counts as one row.
    """
    for path in sorted((root / "views").glob(f"*/*/{INDEX}")):
        copied = index_rows(path)
        if rows := 1 if copied is None else _matches(copied["sample_id"], ids):
            yield path, rows
    for folder in sorted((root / "inputs").glob(f"{corpus}-*")):
        records = sorted(folder.glob("*.json"))
        rows = sum(s["id"] in ids for r in records for s in json.loads(r.read_text(encoding="utf-8"))["samples"])
        if rows or len(records) < len(list(folder.glob("*.bin"))):  # a block without a record may hold anybody
            yield folder, rows
    yield from ((path, 1) for path in sorted((root / "samples").glob(f"{corpus}.*.broken*")))


def _count_rows(path: Path, ids: Collection[str]) -> int:
    """Rows of a table that are to go; a shard's table that cannot be read has at least one."""
    try:
        column = read_parquet(path, ["sample_id"])["sample_id"]
    except (BrokenFileError, FileNotFoundError):
        return 1
    return _matches(column, ids)


def _matches(column: pa.ChunkedArray, ids: Collection[str]) -> int:
    return int(pc.sum(pc.is_in(column, pa.array(sorted(ids), pa.string()))).as_py() or 0)


def _remove_orphans(root: Path, corpus: str) -> None:
    """Files that a killed writer left without a record may hold anybody."""
    for path in [*(root / "views").glob("*/*/*.tar"), *(root / "views").glob("*/*/*.parquet")]:
        if path.stem.rpartition("-")[0] == corpus and not commit_path(path.parent, path.stem).is_file():
            with _require_shard_lock(path.parent, path.stem):  # a living writer's files get their record in a moment
                if not commit_path(path.parent, path.stem).is_file():
                    path.unlink(missing_ok=True)


def _recount(store: FeatureStore, corpus: str, samples: pa.Table) -> None:
    """The audit counts removed samples as left out, so that it still adds up."""
    if not audit_path(store.root, corpus).is_file():
        return
    audit = read_audit(store.root, corpus)
    parsed = Parsed(from_table(samples), [RowError(**error) for error in audit.errors], audit.notes)
    parsed.errors += [DELETED] * (audit.found - parsed.found)
    joined = join_transcripts(store.root, corpus, samples)
    counted = make_audit(corpus, store.catalog.corpus(corpus), Path(audit.root), parsed, joined)
    write_audit(store.root, replace(counted, state=audit.state))


def _deleted_file(root: Path, path: Path, rows: int) -> DeletedFile:
    return DeletedFile(str(path.relative_to(root)), rows)
