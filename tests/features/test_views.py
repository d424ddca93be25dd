"""Feature views: what is in a fingerprint, one rate for sound, and how much of a clip must show a face."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from merloco.features.extraction.encoder import encode_items
from merloco.features.extraction.reader import Item
from merloco.features.shards.format import plan_shards, read_rows, write_shard
from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView, resolve_view
from merloco.models.encoders.base import Encoding
from merloco.pipelines.catalog.loader import Catalog, load_catalog
from merloco.pipelines.errors import UsageError
from tests.helpers.corpora_files import merloco
from tests.helpers.store_files import CATALOG, make_store


def changed(folder: Path, section: str, name: str, **values: object) -> Catalog:
    """The shipped catalog with other values in one entry."""
    raw = yaml.safe_load(CATALOG.read_text(encoding="utf-8"))
    raw[section][name].update(values)
    (folder / "catalog.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return load_catalog(folder / "catalog.yaml")


def test_an_encoder_hears_at_the_rate_of_its_view(tmp_path: Path) -> None:
    usual = resolve_view(load_catalog(CATALOG), "prosody")
    assert usual.definition["encoder"]["sample_rate"] == usual.definition["sample_rate"] == 16000
    other = resolve_view(changed(tmp_path, "views", "prosody", sample_rate=8000), "prosody")
    assert other.definition["encoder"]["sample_rate"] == other.definition["sample_rate"] == 8000
    assert other.spec.parameters["sample_rate"] == 8000 and other.fingerprint != usual.fingerprint


def test_an_encoder_that_is_set_to_another_rate_is_refused(tmp_path: Path) -> None:
    catalog = changed(tmp_path, "encoders", "prosody", parameters={"sample_rate": 8000})
    with pytest.raises(
        UsageError, match="view 'prosody' reads sound at 16000 Hz, and its encoder 'prosody' is set to 8000"
    ):
        resolve_view(catalog, "prosody")


class Pictures:
    """An encoder of pictures without weights: a frame shows a face where it is bright."""

    modality = "video"
    dim = 2

    def encode(self, items: list[np.ndarray]) -> list[Encoding]:
        bright = [item.reshape(len(item), -1).mean(axis=1) > 127 for item in items]
        return [Encoding(np.ones((len(b), 2), np.float32) * b[:, None], b) for b in bright]


def clip(faces: int, frames: int = 30) -> np.ndarray:
    pictures = np.zeros((frames, 4, 4, 3), np.uint8)
    pictures[:faces] = 255
    return pictures


@pytest.fixture
def view() -> FeatureView:
    return resolve_view(load_catalog(CATALOG), "face_hog")


def test_a_face_in_two_frames_of_a_landscape_is_no_talking_head(view: FeatureView) -> None:
    few, enough, none = encode_items(view, Pictures(), [Item("a", clip(2)), Item("b", clip(6)), Item("c", clip(0))])
    assert (few.status, few.frames, few.face_frames, few.pooled) == ("no_face", 30, 2, None)
    assert few.error == "a face in 2 of 30 frames, below the view's min_face_share 0.2"
    assert (enough.status, enough.face_frames) == ("ok", 6)
    assert (none.status, none.face_frames, none.error) == ("no_face", 0, None)


def test_without_a_share_any_face_will_do_and_the_fingerprint_is_as_it_was(tmp_path: Path) -> None:
    catalog = changed(tmp_path, "views", "face_hog", min_face_share=0.0)
    view = resolve_view(catalog, "face_hog")
    assert "min_face_share" not in view.definition
    assert view.fingerprint != resolve_view(load_catalog(CATALOG), "face_hog").fingerprint
    (row,) = encode_items(view, Pictures(), [Item("a", clip(2))])
    assert row.status == "ok" and row.face_frames == 2
    assert load_catalog(CATALOG).view("resnet50_mer").min_face_share == 0.0


def test_the_store_keeps_how_many_frames_show_a_face(
    view: FeatureView, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    store = make_store(tmp_path, n=3, extracted=False)
    (shard,) = plan_shards("meld", store.samples(), "video")
    items = [Item(i, clip(n)) for i, n in zip(shard.samples["sample_id"].to_pylist(), (2, 9, 30), strict=True)]
    rows = encode_items(view, Pictures(), items)
    write_shard(store.folder(view), shard, rows, 4, {})
    query = "select status, n_frames, n_face_frames from face_hog order by n_face_frames"
    assert store.sql(query).fetchall() == [("no_face", 30, 2), ("ok", 30, 9), ("ok", 30, 30)]
    assert [(r.frames, r.face_frames) for r in read_rows(store.folder(view), shard.name)] == [
        (30, 2),
        (30, 9),
        (30, 30),
    ]
    out = merloco(capsys, store, "sql", "select error from failures where view = 'face_hog'", "--format", "csv")[1]
    assert "a face in 2 of 30 frames" in out


def test_shards_of_text_and_of_earlier_versions_have_no_frames(tmp_path: Path) -> None:
    store: FeatureStore = make_store(tmp_path, n=10)
    assert store.sql("select distinct n_frames, n_face_frames from minilm").fetchall() == [(None, None)]
