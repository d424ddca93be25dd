"""What a media file holds: streams, time line, packets; and errors of decoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEAD = 1.0
"""Seconds before an interval at which decoding begins: codecs need earlier packets, and a container goes to the nearest
key frame only."""


class MediaError(Exception):
    """A file cannot be used.

    `code` is the sample's status: `missing_media`, `empty`, `decode_error`, `no_audio`, `no_video`, `not_finite`,
    `too_long`; and from a decoder process (`merloco.pipelines.media.pool`) `timeout`, `decoder_died`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Probe:
    """What the container says, without decoding."""

    duration: float | None
    """Seconds from the container's start to the end of its last stream."""
    has_video: bool
    has_audio: bool
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    sample_rate: int | None = None
    channels: int | None = None


def probe(path: Path) -> Probe:
    """Read a container's header.

    Raises:
        MediaError: There is no file, or it is no media container.
    """
    with open_container(path) as container:
        video = picture_track(container)
        audio = next(iter(sound_tracks(container)), None)
        ends = [stream_end(stream, container) for stream in (video, audio) if stream is not None]
        return Probe(
            duration=max((end for end in ends if end is not None), default=None),
            has_video=video is not None,
            has_audio=audio is not None,
            fps=float(video.average_rate) if video is not None and video.average_rate else None,
            width=video.width if video is not None else None,
            height=video.height if video is not None else None,
            sample_rate=audio.rate if audio is not None else None,
            channels=audio.channels if audio is not None else None,
        )


def open_container(path: Path) -> Any:
    """Open a container that holds a video or an audio stream; raises `MediaError`."""
    import av

    av.logging.set_level(av.logging.PANIC)
    if not path.is_file():
        raise MediaError("missing_media", f"{path.name} is not there")
    if path.stat().st_size == 0:
        raise MediaError("empty", f"{path.name} has no bytes")
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except Exception as error:  # PyAV passes on whatever FFmpeg's demuxers raise
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise MediaError("decode_error", f"{path.name} does not open: {reason}") from None
    if not container.streams.video and not container.streams.audio:
        container.close()
        raise MediaError("decode_error", f"{path.name} has neither picture nor sound: it may be cut short")
    return container


def container_start(container: Any) -> float:
    """Seconds of the container's own stamps at which its earliest stream begins: the zero of its time line."""
    return container.start_time / 1_000_000 if container.start_time else 0.0


def stream_end(stream: Any, container: Any) -> float | None:
    """Seconds from the container's start to the end of a stream, by the header."""
    zero = container_start(container)
    if stream.duration:
        begin = zero if stream.start_time is None else float(stream.start_time * stream.time_base)
        return begin + float(stream.duration * stream.time_base) - zero
    if not container.duration:
        return None
    # Matroska gives the stamp of the end, the others a length.
    return container.duration / 1_000_000 - (zero if "matroska" in container.format.name else 0.0)


def picture_track(container: Any) -> Any | None:
    """The video stream: FFmpeg's best one, as decord takes it; a cover picture is none."""
    import av

    best = container.streams.best("video")
    attached = av.stream.Disposition.attached_pic
    return None if best is None or best.disposition & attached else best


def sound_tracks(container: Any) -> list[Any]:
    """The audio streams, those that the file marks as default first."""
    import av

    default = av.stream.Disposition.default
    return sorted(container.streams.audio, key=lambda stream: not stream.disposition & default)


def seek(container: Any, stream: Any, stamp: float) -> bool:
    """Go to a packet well before a stamp; False where reading begins at the start of the file."""
    if stamp - container_start(container) <= LEAD:
        return False
    try:
        container.seek(int((stamp - LEAD) / stream.time_base), stream=stream)
    except (OSError, ValueError, OverflowError):  # no index, or none that holds
        return False
    return True


def decode(container: Any, stream: Any) -> Iterator[list[Any] | None]:
    """Frames of each packet of a stream; None for a bad packet, which costs its own frames.

    After an error of the demuxer, the last packet, a container cannot go on.
    """
    demuxed = container.demux(stream)
    while True:
        try:
            packet = next(demuxed)
        except StopIteration:
            return
        except Exception:  # FFmpeg's errors have no common type
            yield None
            return
        try:
            frames = packet.decode()
        except Exception:  # see above: PyAV raises a dozen types for bad packets
            frames = None
        yield frames
