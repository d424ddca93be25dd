"""The demo corpora: native layouts, real media, the same bytes each time, every trap in its place."""

import json
from pathlib import Path

import numpy as np
import pytest

from merloco.features.extraction.encoder import encode_items
from merloco.features.extraction.reader import make_reader
from merloco.features.store import FeatureStore
from merloco.models.faces.mtcnn import Mtcnn
from merloco.pipelines.catalog.loader import load_catalog
from merloco.pipelines.corpora.base import Parsed, parse_corpus
from merloco.pipelines.demo.build import build_demo
from merloco.pipelines.demo.corpora import BUILDERS
from merloco.pipelines.errors import UsageError
from merloco.pipelines.files.formats import write_json
from merloco.pipelines.media.audio import read_audio
from merloco.pipelines.media.frame_grid import open_clip
from merloco.pipelines.media.probe import probe
from merloco.pipelines.media.video import _with_decord, _with_pyav, read_frames
from merloco.pipelines.samples.ingest import ingest_corpus
from merloco.pipelines.samples.labels import apply_map
from merloco.pipelines.samples.schema import Sample, to_table
from tests.helpers.store_files import CATALOG

pytestmark = pytest.mark.slow

ENTRIES = load_catalog(CATALOG).corpora


@pytest.fixture(scope="session")
def parsed(demo_corpora: dict[str, Path]) -> dict[str, Parsed]:
    return {name: parse_corpus(name, ENTRIES[name], root) for name, root in demo_corpora.items()}


@pytest.mark.parametrize("corpus", list(BUILDERS))
def test_every_corpus_has_enough_usable_utterances_in_every_part(corpus: str, parsed: dict[str, Parsed]) -> None:
    entry = ENTRIES[corpus]
    labels = apply_map(to_table(parsed[corpus].samples), corpus, entry.maps[entry.map]).to_pylist()
    usable = [row for row in labels if row["emotion"]]
    assert len(usable) >= 40
    test = [row["emotion"] for row in usable if row["split"] == "test"]
    assert len(test) >= 20 and min(test.count(name) for name in set(test)) >= 2
    assert {"train", "val", "test"} <= {row["split"] for row in usable}


UNREADABLE = {"dia1_utt3.mp4"}
"""A train clip of demo MELD that is corrupt, as one is in the release."""
MEDIA = {
    "iemocap": ("dialog/avi", "mpeg4", 29.97, 16000, 2),
    "meld": ("train_splits", "h264", 24000 / 1001, 48000, None),
    "mosei": ("Videos", "h264", 30.0, 16000, 2),
    "afew": ("Train_AFEW/Happy", "mpeg4", 25.0, 44100, 2),
}


@pytest.mark.parametrize("corpus", list(BUILDERS))
def test_media_have_the_native_formats_and_a_face(corpus: str, demo_corpora: dict[str, Path]) -> None:
    folder, _, fps, rate, channels = MEDIA[corpus]
    videos = [p for p in sorted(demo_corpora[corpus].rglob("*")) if folder in str(p) and p.suffix in (".mp4", ".avi")]
    found = probe(videos[0])
    assert (found.fps, found.sample_rate) == (pytest.approx(fps, abs=0.01), rate)
    assert channels is None or found.channels == channels
    side = "left" if corpus == "iemocap" else "full"
    frames = read_frames(videos[0], 0.2, 1.2, side=side).frames
    faces = Mtcnn("cpu", 0.8, 40).detect(frames)
    assert all(len(face.boxes) == 1 for face in faces)
    assert not read_audio(videos[0]).silent


def test_meld_clips_have_two_or_six_channels(demo_corpora: dict[str, Path]) -> None:
    clips = sorted((demo_corpora["meld"] / "test_splits").parent.glob("dev_splits_complete/*.mp4"))
    assert {probe(clip).channels for clip in clips} == {2, 6}


@pytest.mark.parametrize("corpus", list(BUILDERS))
def test_either_decoder_gives_the_same_pictures_of_every_clip(corpus: str, demo_corpora: dict[str, Path]) -> None:
    compared = 0
    for path in sorted(demo_corpora[corpus].rglob("*")):
        if path.suffix in (".mp4", ".avi") and not path.name.startswith("._") and path.name not in UNREADABLE:
            clip = open_clip(path, 0.1, 1.3, 5.0, "full")
            one, other = _with_decord(clip).frames, _with_pyav(clip).frames
            assert one.shape == other.shape and np.abs(one.astype(int) - other).max() <= 2, path.name
            compared += 1
    assert compared >= 2


def sample(parsed: dict[str, Parsed], corpus: str, **values: object) -> list[Sample]:
    return [s for s in parsed[corpus].samples if all(getattr(s, k) == v for k, v in values.items())]


def test_the_native_traps_are_in(parsed: dict[str, Parsed], demo_corpora: dict[str, Path]) -> None:
    assert len(sample(parsed, "meld", video_status="missing_media")) == 1
    assert any("without an annotation row" in note for note in parsed["meld"].notes)
    assert any("final_videos_test" in (s.video_path or "") for s in parsed["meld"].samples)
    assert any((s.text or "").startswith("It’s ") for s in parsed["meld"].samples)
    assert sample(parsed, "iemocap", label="xxx") and sample(parsed, "iemocap", label="fru")
    assert [e.code for e in parsed["iemocap"].errors] == ["overlap_turn", "overlap_turn"]
    assert any("transcript" in s.native for s in parsed["iemocap"].samples)
    assert len([s for s in parsed["iemocap"].samples if s.audio_path.endswith("impro01.wav")]) == 1
    assert len([s for s in parsed["mosei"].samples if "negative_start" in s.marks]) == 1
    assert sample(parsed, "mosei", split="none")
    assert max(int(s.sample_id.rsplit("/", 1)[1]) for s in parsed["mosei"].samples) >= 10
    stems = {(s.sample_id.split("/")[1], s.sample_id.rsplit("/", 1)[1]) for s in parsed["afew"].samples}
    assert {name for part, name in stems if part == "train"} & {name for part, name in stems if part == "val"}


def test_bad_clips_become_statuses_and_cost_nothing_else(demo_corpora: dict[str, Path], tmp_path: Path) -> None:
    store = FeatureStore.open(tmp_path, load_catalog(CATALOG), create=True)
    statuses = {}
    for corpus, wanted in (("meld", {"dia1_utt3"}), ("afew", {"no_face", "no_audio"})):
        ingest_corpus(corpus, ENTRIES[corpus], demo_corpora[corpus], tmp_path)
        records = store.samples([corpus]).to_pylist()
        if corpus == "meld":
            records = [r for r in records if r["sample_id"].rsplit("/", 1)[1] in wanted and "/train/" in r["sample_id"]]
        else:
            records = [r for r in records if "/train/" in r["sample_id"]][:12]
        for name in ("prosody", "face_hog"):
            view = store.view(name)
            reader = make_reader(view, demo_corpora[corpus])
            for row in encode_items(view, view.build("cpu"), [reader(record) for record in records]):
                statuses.setdefault((corpus, name), set()).add(row.status)
    assert statuses["meld", "prosody"] == statuses["meld", "face_hog"] == {"decode_error"}
    assert statuses["afew", "prosody"] == {"ok", "no_audio"}
    assert statuses["afew", "face_hog"] == {"ok", "no_face"}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, demo_corpora: dict[str, Path]) -> None:
    again = build_demo(tmp_path, corpora=("afew",))["afew"]
    first = demo_corpora["afew"]
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert all((first / name).read_bytes() == (again / name).read_bytes() for name in files)


def test_a_finished_demo_is_left_as_it_is_and_an_interrupted_one_is_built_again(tmp_path: Path) -> None:
    root = build_demo(tmp_path, corpora=("afew",))["afew"]
    clip = sorted(root.rglob("*.avi"))[0]
    before = clip.stat().st_mtime_ns
    build_demo(tmp_path, corpora=("afew",))
    assert clip.stat().st_mtime_ns == before
    write_json(tmp_path / "demo.json", {**json.loads((tmp_path / "demo.json").read_text()), "version": None})
    clip.write_bytes(b"half")  # as a killed one leaves them
    build_demo(tmp_path, corpora=("afew",))
    assert clip.stat().st_size > 1000


def test_expressions_move_the_face(demo_corpora: dict[str, Path]) -> None:
    from merloco.pipelines.demo.face import EXPRESSIONS, make_actor, render_face

    actor = make_actor(np.random.default_rng(0))
    rested, _ = render_face(actor, "neutral", 1.0, 0.0, 0.0, 120)
    for name in EXPRESSIONS:
        face, _ = render_face(actor, name, 1.0, 0.0, 0.0, 120)
        assert (name == "neutral") == (np.abs(face - rested).mean() < 0.1)


def test_a_folder_that_no_demo_has_made_is_somebodys_corpus_and_stays(tmp_path: Path) -> None:
    annotation = tmp_path / "meld" / "train_sent_emo.csv"
    annotation.parent.mkdir()
    annotation.write_text("the real one")
    with pytest.raises(UsageError, match="no finished demo made it"):
        build_demo(tmp_path, corpora=("meld", "afew"))
    assert [p for p in sorted(tmp_path.rglob("*")) if p.is_file()] == [annotation]
