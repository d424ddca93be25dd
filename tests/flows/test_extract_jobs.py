"""Jobs of an extraction: one shard of the views that read the same media."""

from dataclasses import replace
from pathlib import Path

from merloco.flows.extract.jobs import ShardJob, extract_jobs
from merloco.flows.extract.service import clear_caches, extract_one
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
