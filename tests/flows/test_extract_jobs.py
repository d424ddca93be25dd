"""Jobs of an extraction: one shard of the views that read the same media."""

import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from merloco.flows.extract.jobs import ShardJob, extract_jobs
from merloco.flows.extract.service import clear_caches, extract_locked, extract_one
from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.schema import Sample
from tests.helpers.corpora_files import store_of
from tests.helpers.media_files import clicks, write_media
from tests.helpers.store_files import CATALOG

WAVE = clicks(1.0, [0.3, 0.6])


def clip_sample(root: Path, name: str) -> Sample:
    """A clip whose file holds sound and picture, as in MELD."""
    write_media(root / f"{name}.mp4", 1.0, wave=WAVE)
    file = f"{name}.mp4"
    return Sample(f"meld/train/{name}", "meld", "train", label="joy", video_path=file, audio_path=file, text="Hi.")


def sentence_sample(name: str) -> Sample:
    """A sentence whose sound is a wav file of its own beside the dialogue's avi, as in IEMOCAP."""
    return Sample(f"iemocap/s/{name}", "iemocap", "none", label="hap", video_path="d.avi", audio_path=f"{name}.wav")


def jobs_of(store_samples: list[Sample], folder: Path, views: tuple[str, ...]) -> list[ShardJob]:
    store = store_of(folder / "store", *store_samples)
    clear_caches()
    planned = store.plan([store.view(name) for name in views])
    roots = {name: str(folder / "root") for name in ("meld", "iemocap")}
    return extract_jobs(store, str(CATALOG), planned, roots, "cpu", retry_failed=False)


def test_views_that_read_one_file_are_one_job(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    samples = [clip_sample(tmp_path / "root", "a"), sentence_sample("b")]
    jobs = jobs_of(samples, tmp_path, ("prosody", "face_hog", "minilm"))
    assert [(job.corpus, job.views) for job in jobs] == [
        ("iemocap", ("prosody",)),
        ("meld", ("prosody", "face_hog")),
        ("iemocap", ("face_hog",)),
        ("iemocap", ("minilm",)),
        ("meld", ("minilm",)),
    ]
    assert jobs[1].label == "prosody+face_hog-meld-00000"


def test_a_job_commits_every_view_of_its_shard(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    jobs = jobs_of([clip_sample(tmp_path / "root", "a")], tmp_path, ("prosody", "face_hog"))
    done: list[int] = []
    commits = [commit for job in jobs for commit in extract_one(job, done.append)]
    assert [(c.shard, c.statuses) for c in commits] == [("meld-00000", {"ok": 1}), ("meld-00000", {"no_face": 1})]
    assert sum(done) == 2


def test_a_sample_that_takes_longer_than_the_time_limit_has_a_status(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (job,) = jobs_of([clip_sample(tmp_path / "root", "a")], tmp_path, ("prosody",))
    (commit,) = extract_one(replace(job, time_limit=0.001))
    assert commit.statuses == {"timeout": 1}


def test_workers_find_the_catalog_and_the_store_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root").mkdir()
    monkeypatch.chdir(tmp_path)
    (job,) = jobs_of([clip_sample(tmp_path / "root", "a")], Path(), ("minilm",))
    assert (job.catalog, job.store) == (str(CATALOG), str(tmp_path / "store"))


def another_store(job: ShardJob, folder: Path) -> ShardJob:
    (folder / "mount").mkdir()  # of a file system that is not mounted
    return replace(job, store=str(folder / "mount"))


def empty_root(job: ShardJob, folder: Path) -> ShardJob:
    (folder / "mount").mkdir()
    return replace(job, root=str(folder / "mount"))


UNSEEN: dict[str, tuple[Callable[[ShardJob, Path], ShardJob], str]] = {
    "no catalog": (lambda job, folder: replace(job, catalog=str(folder / "no.yaml")), r"the catalog at '.*no\.yaml'"),
    "no store": (lambda job, folder: replace(job, store=str(folder / "gone")), "the store at '.*gone'"),
    "a store that is a file": (lambda job, folder: replace(job, store=job.catalog), r"the store at '.*catalog\.yaml'"),
    "an empty store": (another_store, "the store at '.*mount'"),
    "no corpus": (lambda job, folder: replace(job, root=str(folder / "gone")), "the corpus 'meld' at '.*gone'"),
    "a corpus below a file": (
        lambda job, folder: replace(job, root=f"{job.catalog}/x"),
        "the corpus 'meld' at '.*catalog.yaml/x'",
    ),
    "an empty corpus": (empty_root, r"the corpus 'meld' at '.*mount' \(an empty folder\)"),
}


@pytest.mark.parametrize("case", UNSEEN)
def test_a_worker_that_does_not_see_the_files_of_a_job_says_so_and_writes_nothing(tmp_path: Path, case: str) -> None:
    (tmp_path / "root").mkdir()
    (job,) = jobs_of([clip_sample(tmp_path / "root", "a")], tmp_path, ("prosody",))
    change, sentence = UNSEEN[case]
    unseen = change(job, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=rf"^the worker on '{platform.node()}' \(process \d+\) does not see {sentence}"):
        extract_locked(unseen)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_job_of_texts_needs_no_release(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (job,) = jobs_of([clip_sample(tmp_path / "root", "a")], tmp_path, ("minilm",))
    (commit,) = extract_locked(replace(job, root="")) or ()
    assert commit.statuses == {"ok": 1}
