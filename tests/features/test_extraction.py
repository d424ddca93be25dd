"""Extraction as a pipeline: the same bytes however it is cut, and what goes wrong with one sample costs that sample."""

import os
import threading
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from merloco.features.extraction.bounded_queue import BoundedQueue, QueueCancelled
from merloco.features.extraction.pipeline import ShardTarget, extract_views
from merloco.features.extraction.reader import Item, read_sample
from merloco.features.shards.commit import Commit
from merloco.features.shards.format import plan_shards, read_rows
from merloco.features.store import FeatureStore
from merloco.features.views import FeatureView
from merloco.models.encoders.base import Encoding, ModelError
from merloco.pipelines.media.clips import AudioClip, DecodeInfo, Frames
from merloco.pipelines.media.pool import Decoder, DecoderPool, InlineDecoder
from merloco.pipelines.samples.schema import Sample
from tests.helpers.corpora_files import store_of
from tests.helpers.decoders import POISON
from tests.helpers.media_files import Track, clicks, write_media, write_streams


class Loudness:
    """An audio encoder of width 2 that needs no weights; it breaks on sound louder than `limit`."""

    modality, dim = "audio", 2

    def __init__(self, limit: float = np.inf) -> None:
        self.limit = limit

    def encode(self, items: list[np.ndarray]) -> list[Encoding]:
        if max((np.abs(item).max() for item in items), default=0.0) > self.limit:
            raise RuntimeError("too loud\nfor me")
        vectors = [np.stack([item.std(axis=1), np.abs(item).max(axis=1)], axis=1) for item in items]
        return [Encoding(vector, np.ones(len(vector), bool)) for vector in vectors]


class Brightness:
    """A video encoder of width 1 in two steps: dark frames show nothing."""

    modality, dim = "video", 1

    def detect(self, items: list[np.ndarray]) -> list[np.ndarray]:
        return [item.mean(axis=(1, 2, 3)) > 30 for item in items]

    def encode_detections(self, items: list[np.ndarray], found: list[np.ndarray]) -> list[Encoding]:
        means = [item.mean(axis=(1, 2, 3), dtype=np.float32)[:, None] for item in items]
        return [Encoding(mean, valid, {"valid": valid}) for mean, valid in zip(means, found, strict=True)]

    def encode(self, items: list[np.ndarray]) -> list[Encoding]:
        return self.encode_detections(items, self.detect(items))


class Counting(InlineDecoder):
    """Decodes here and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []

    def read_audio(self, *arguments: Any) -> AudioClip:
        self.asked.append(("audio", *arguments))
        return super().read_audio(*arguments)

    def read_frames(self, *arguments: Any) -> Frames:
        self.asked.append(("frames", *arguments))
        return super().read_frames(*arguments)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of other lengths and loudness, with sound and picture in one file."""
    root = tmp_path_factory.mktemp("clips")
    for i in range(10):
        seconds = 0.6 + 0.3 * i
        write_media(root / f"clip{i}.mp4", seconds, wave=clicks(seconds, [0.2, 0.4]) * (1 + 0.08 * i))
    return root


def store_with(folder: Path, *names: str) -> FeatureStore:
    samples = [
        Sample(f"meld/train/{name}", "meld", "train", video_path=f"{name}.mp4", audio_path=f"{name}.mp4")
        for name in names
    ]
    return store_of(folder, *samples)


def target_of(store: FeatureStore, view: FeatureView, encoder: Any, folder: Path) -> ShardTarget:
    (shard,) = plan_shards("meld", store.samples(), view.modality)
    return ShardTarget(view, encoder, shard, folder / view.name)


def extract(
    root: Path, targets: list[ShardTarget], media: Decoder | None = None, readers: int = 2, **settings: Any
) -> list[Commit]:
    views = [target.view for target in targets]
    used = media or InlineDecoder()

    def read(record: Mapping[str, Any]) -> Mapping[str, Item]:
        return read_sample(views, record, root, used)

    return extract_views(targets, read, readers=readers, **settings)


@pytest.fixture
def two(clips: Path, tmp_path: Path) -> list[ShardTarget]:
    """A sound and a picture view of the clips."""
    store = store_with(tmp_path / "store", *(f"clip{i}" for i in range(10)))
    return [
        target_of(store, store.view("prosody"), Loudness(), tmp_path),
        target_of(store, store.view("face_hog"), Brightness(), tmp_path),
    ]


def bytes_in(*targets: ShardTarget) -> dict[str, bytes]:
    found = [p for t in targets for p in t.folder.iterdir() if p.suffix in (".tar", ".parquet")]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in found}


def test_grouping_readers_and_batches_change_no_byte(
    clips: Path, two: list[ShardTarget], monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(clips, two)
    expected = bytes_in(*two)
    assert len(expected) == 4
    for target in two:
        extract(clips, [target], readers=1)
    assert bytes_in(*two) == expected
    monkeypatch.setattr("merloco.features.extraction.stages.BATCH_ITEMS", 1)
    monkeypatch.setattr("merloco.features.extraction.pipeline.MAX_WAITING_BYTES", 1)
    extract(clips, two[::-1], readers=5, detectors=3, device_lock=threading.Lock())
    assert bytes_in(*two) == expected


def test_decoder_processes_change_no_byte(clips: Path, two: list[ShardTarget]) -> None:
    extract(clips, two)
    expected = bytes_in(*two)
    decoders = DecoderPool()
    extract(clips, two, decoders)
    decoders.close()
    assert bytes_in(*two) == expected


def test_views_share_what_is_decoded(clips: Path, two: list[ShardTarget], tmp_path: Path) -> None:
    audio, video = two
    again = FeatureView("again", "video", video.view.spec, {**video.view.definition, "window": None})
    faster = FeatureView("faster", "video", video.view.spec, {**video.view.definition, "fps": 10.0})
    more = [ShardTarget(view, video.encoder, video.shard, tmp_path / view.name) for view in (again, faster)]
    media = Counting()
    extract(clips, [audio, video, *more], media)
    assert len(media.asked) == 30  # of each clip the sound, and the pictures at two frame rates


def test_every_stage_is_timed(clips: Path, two: list[ShardTarget]) -> None:
    sound, pictures = extract(clips, two)
    assert list(sound.seconds) == ["decode", "encode", "wait", "write"]
    assert list(pictures.seconds) == ["decode", "detect", "encode", "wait", "write"]
    assert pictures.seconds["decode"] > 0


def test_a_decoder_that_crashes_or_hangs_costs_its_sample(tmp_path: Path) -> None:
    names = ("a_good", "b_crash", "c_good", "d_hang", "e_good", "f_gone")
    for name in names[:-1]:
        write_media(tmp_path / f"{name}.mp4", 1.0, wave=clicks(1.0, [0.3, 0.6]))
    store = store_with(tmp_path / "store", *names)
    target = target_of(store, store.view("prosody"), Loudness(), tmp_path)
    decoders = DecoderPool(time_limit=3.0, command=POISON)
    (commit,) = extract(tmp_path, [target], decoders)
    decoders.close()
    statuses = {row.sample_id.rpartition("/")[2]: row.status for row in read_rows(target.folder, commit.shard)}
    assert list(statuses.values()) == ["ok", "decoder_died", "ok", "timeout", "ok", "missing_media"]
    assert commit.failed == 3


def test_an_item_that_breaks_the_encoder_costs_itself(clips: Path, two: list[ShardTarget]) -> None:
    target = ShardTarget(two[0].view, Loudness(limit=0.8), two[0].shard, two[0].folder)
    (commit,) = extract(clips, [target])
    failed = [row for row in read_rows(target.folder, commit.shard) if row.status != "ok"]
    assert 0 < len(failed) < 5 and commit.ok == 10 - len(failed)
    assert {(row.status, row.error) for row in failed} == {("encode_error", "RuntimeError: too loud for me")}


class Unusable(Brightness):
    def detect(self, items: list[np.ndarray]) -> list[np.ndarray]:
        raise ModelError("the checkpoint has no layer 99")


@pytest.mark.parametrize("max_bytes", [1, 2**30])
def test_what_a_user_has_to_mend_ends_the_run(
    clips: Path, two: list[ShardTarget], monkeypatch: pytest.MonkeyPatch, max_bytes: int
) -> None:
    monkeypatch.setattr("merloco.features.extraction.pipeline.MAX_WAITING_BYTES", max_bytes)
    monkeypatch.setattr("merloco.features.extraction.stages.BATCH_ITEMS", 1)
    broken = ShardTarget(two[1].view, Unusable(), two[1].shard, two[1].folder)
    with pytest.raises(ModelError, match="layer 99"):
        extract(clips, [two[0], broken])
    assert not broken.folder.exists()


class Unplugged(InlineDecoder):
    def read_audio(self, *arguments: Any) -> AudioClip:
        raise OSError("stale file handle")


def test_a_fault_of_the_machine_ends_the_run_without_a_commit(clips: Path, two: list[ShardTarget]) -> None:
    with pytest.raises(OSError, match="stale file handle"):
        extract(clips, two, Unplugged())
    assert not any(target.folder.exists() for target in two)


def test_networks_share_the_cores_while_jobs_run_and_get_them_back_afterwards(
    clips: Path, two: list[ShardTarget]
) -> None:
    before = torch.get_num_threads()
    seen: set[int] = set()

    class Looking(Loudness):
        def encode(self, items: list[np.ndarray]) -> list[Encoding]:
            seen.add(torch.get_num_threads())
            return super().encode(items)

    torch.set_num_threads(8)
    extract(clips, [ShardTarget(two[0].view, Looking(), two[0].shard, two[0].folder)])
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert max(seen) <= max(1, len(os.sched_getaffinity(0)) // 4) and after == 8


def test_a_channel_holds_no_more_than_its_room() -> None:
    queue: BoundedQueue[int] = BoundedQueue(max_bytes=10)
    sent: list[int] = []

    def send() -> None:
        for i in range(20):
            queue.put(i, 4)
            sent.append(i)
        queue.close()

    sender = threading.Thread(target=send)
    sender.start()
    taken = []
    for i in queue:
        assert len(sent) <= len(taken) + 4  # two that wait, one handed over, one being counted
        taken.append(i)
    sender.join()
    assert taken == list(range(20)) and queue.idle_seconds >= 0


def test_a_queue_lets_a_large_thing_pass_alone_and_refuses_when_cancelled() -> None:
    queue: BoundedQueue[str] = BoundedQueue(max_bytes=1)
    queue.put("large", 100)
    assert next(iter(queue)) == "large"
    queue.cancel()
    with pytest.raises(QueueCancelled):
        queue.put("late")


def test_the_row_of_a_sample_says_how_it_was_decoded(tmp_path: Path) -> None:
    root = tmp_path / "clips"
    root.mkdir()
    times = [i / 25 for i in range(50)]
    tone = clicks(2.0, [0.5, 1.5], channels=1)
    write_streams(root / "plain.mp4", times, [Track(np.tile(tone, (6, 1)))])
    write_streams(root / "cancels.mp4", times, [Track(np.concatenate([tone, -tone]))], codecs=("libx264", "flac"))
    write_streams(root / "tracks.mp4", times, [Track(0 * tone), Track(tone)])
    write_streams(root / "wide.mp4", times, aspect=Fraction(2, 1))
    write_media(root / "cut.mp4").write_bytes(b"\0" * 100)
    store = store_with(tmp_path / "store", "plain", "cancels", "tracks", "wide", "cut")
    sound, picture = store.view("prosody"), store.view("face_hog")
    targets = [
        target_of(store, sound, Loudness(), store.root / "views" / sound.fingerprint),
        target_of(store, picture, Brightness(), store.root / "views" / picture.fingerprint),
    ]
    extract(root, targets)

    def rows(target: ShardTarget) -> dict[str, tuple[str, DecodeInfo]]:
        return {r.sample_id.rpartition("/")[2]: (r.status, r.info) for r in read_rows(target.folder, target.shard.name)}

    heard, seen = rows(targets[0]), rows(targets[1])
    assert {name: status for name, (status, _) in heard.items()} == {
        "plain": "ok", "cancels": "ok", "tracks": "ok", "wide": "no_audio", "cut": "decode_error",
    }  # fmt: skip
    assert heard["plain"][1].n_channels == 6 and heard["plain"][1].decode_notes is None
    assert -60 < heard["plain"][1].level_dbfs < -10 and heard["plain"][1].clipped_share == 0
    assert heard["cancels"][1].decode_notes == "the down-mix cancels: channel 1 of 2 alone"
    assert heard["tracks"][1].decode_notes == "sound track 2 of 2"
    assert (seen["plain"][1].decoder, seen["wide"][1].decoder) == ("decord", "pyav")
    assert seen["wide"][1].decode_notes == "pixels that are not square"
    assert seen["cut"] == ("decode_error", DecodeInfo())
