"""What a media file holds, and errors of decoding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


class MediaError(Exception):
    """A file cannot be used.

    `code` is the sample's status: `missing_media`, `empty`, `decode_error`, `no_audio`, `no_video`; and from a decoder
    process (`merloco.pipelines.media.pool`) `timeout`, `decoder_died`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Probe:
    """What the container says, without decoding."""

    duration: float | None
    """Seconds."""
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
        video = container.streams.video[0] if container.streams.video else None
        audio = container.streams.audio[0] if container.streams.audio else None
        durations = [container.duration / 1_000_000] if container.duration else []
        durations += [float(s.duration * s.time_base) for s in (video, audio) if s is not None and s.duration]
        return Probe(
            duration=max(durations, default=None),
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


def stream_length(stream: Any, container: Any) -> float | None:
    """Seconds of a stream by its header: decoders pad AAC beyond it."""
    if stream.duration:
        return float(stream.duration * stream.time_base) + float((stream.start_time or 0) * stream.time_base)
    return container.duration / 1_000_000 if container.duration else None
