"""`merloco gc`: what no catalog name, no record and no living writer needs any more; results of runs are kept."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from merloco.features.query.index import INDEX, read_index
from merloco.features.runs import read_config, run_folders
from merloco.features.shards.commit import commit_path, drop_shard
from merloco.features.shards.locks import active_locks, shard_lock
from merloco.features.store import FeatureStore
from merloco.models.encoders.base import ModelError
from merloco.pipelines.files.atomic import TEMPORARY, remove, temporary_files


@dataclass(frozen=True, slots=True)
class GcItem:
    """One file, shard or folder that can go."""

    kind: str
    """`leftover`, `orphan`, `unasked`, `index`, `superseded`, `unknown_view` or `run`."""
    where: str
    """Path relative to the store; of a shard, without a suffix."""
    bytes: int
    why: str


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What can go, and sentences on what looks like it but stays."""

    items: list[GcItem]
    kept: list[str]


def plan_gc(store: FeatureStore, runs: bool = False) -> GcPlan:
    """Look for what nothing needs and, with `runs`, for runs whose features are gone or would go; changes nothing."""
    writers = temporary_files(store.root)
    items = [_item(store, "leftover", path, "of a killed writer") for path, state in writers if state == "dead"]
    kept, busy = [], set()
    for path, state in writers:
        if state != "dead":
            host = " on another host; run `merloco gc` there" if state == "elsewhere" else ""
            kept.append(f"{path.relative_to(store.root)}: its writer may still be at work{host}")
            busy.add(path.parent / path.name.split("-", 4)[-1].split(".")[0])
    asked = store.planned_shards("text").keys()  # names of shards are the same for every modality
    busy |= {folder / shard for folder, shard in active_locks(store.root)}
    for view_folder in _folders(store.root / "views"):
        current, reason = _current(store, view_folder.name)
        if reason:
            kept.append(f"views/{view_folder.name}: {reason}")
            continue
        for folder in _folders(view_folder):
            if folder == current:
                items += _inside(store, folder, asked, busy)
            elif any(path.parent == folder for path in busy):
                kept.append(f"{folder.relative_to(store.root)}: somebody is writing to it")
            elif view_folder.name not in store.catalog.views:
                items.append(_item(store, "unknown_view", folder, "no view of the catalog has this name"))
            else:
                items.append(_item(store, "superseded", folder, "the view has another fingerprint now"))
    if runs:
        items += _runs(store, {item.where for item in items})
    folders = tuple(f"{item.where}/" for item in items if item.kind in ("superseded", "unknown_view", "run"))
    return GcPlan([item for item in items if not item.where.startswith(folders)], kept)


def remove_items(store: FeatureStore, items: Iterable[GcItem]) -> int:
    """Remove what a plan names, and return the number of bytes freed."""
    freed = 0
    for item in items:
        path = store.root / item.where
        if item.kind in ("orphan", "unasked"):
            with shard_lock([path.parent], path.stem) as acquired:
                if not acquired or (item.kind == "orphan" and commit_path(path.parent, path.stem).is_file()):
                    continue  # a writer was faster
                remove(path) if item.kind == "orphan" else drop_shard(path.parent, path.name)
        else:
            for record in sorted(path.glob("*.commit.json")):  # records first: a kill must not leave some without files
                record.unlink(missing_ok=True)
            remove(path)
            if item.kind in ("superseded", "unknown_view") and not any(path.parent.iterdir()):
                path.parent.rmdir()
        freed += item.bytes
    return freed


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.glob("*") if p.is_dir() and not p.name.startswith(TEMPORARY))


def _current(store: FeatureStore, name: str) -> tuple[Path | None, str]:
    """The fingerprint folder that the catalog means, or why that cannot be said."""
    if name not in store.catalog.views:
        return None, ""
    try:
        return store.folder(store.view(name)), ""
    except ModelError as error:
        return None, f"the fingerprint cannot be computed, so nothing of this view goes ({error})"


def _inside(store: FeatureStore, folder: Path, asked: Collection[str], busy: set[Path]) -> Iterator[GcItem]:
    """Files without a record, shards for which no sample asks any more and an index of no use, in a current folder."""
    corpora = store.corpora()
    for path in sorted(folder.iterdir()):
        if path.name.startswith(TEMPORARY) or folder / path.name.split(".")[0] in busy:
            continue
        shard = path.name.removesuffix(".commit.json")
        if path.suffix in (".tar", ".parquet") and not commit_path(folder, path.stem).is_file():
            yield _item(store, "orphan", path, "no commit record: it does not exist")
        elif path.name != shard and shard not in asked and shard.rpartition("-")[0] in corpora:
            why = "the samples table no longer asks for this shard"
            size = sum(_size(folder / f"{shard}.{kind}") for kind in ("tar", "parquet", "commit.json"))
            yield GcItem("unasked", str((folder / shard).relative_to(store.root)), size, why)
    if (folder / INDEX).is_file() and read_index(folder) is None:
        yield _item(store, "index", folder / INDEX, "a copy of other shards than there are now; SQL makes a new one")


def _runs(store: FeatureStore, removed: set[str]) -> Iterator[GcItem]:
    present = {p.name for p in (store.root / "views").glob("*/*") if str(p.relative_to(store.root)) not in removed}
    for folder in run_folders(store.root):
        missing = sorted(set(read_config(folder)["config"].get("views", {}).values()) - present)
        if missing:
            yield _item(store, "run", folder, f"its features are gone (fingerprints {', '.join(missing)})")


def _item(store: FeatureStore, kind: str, path: Path, why: str) -> GcItem:
    return GcItem(kind, str(path.relative_to(store.root)), _size(path), why)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size if path.is_file() else 0
