"""Decoding in child processes: one that hangs, crashes or grows costs its sample, not the run."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from merloco.pipelines.media.audio import read_audio
from merloco.pipelines.media.channels import DownMix
from merloco.pipelines.media.clips import AudioClip, DecodeInfo, Frames
from merloco.pipelines.media.probe import MediaError
from merloco.pipelines.media.video import read_frames
from merloco.pipelines.media.worker import HEADER

TIME_LIMIT = 120.0
"""Seconds that one sample may take to decode."""
LIFETIME = 500
"""Requests after which a child is replaced: decoders leak, file descriptors above all."""
PIPE = 1 << 20
"""Bytes that the kernel is asked to hold between child and parent."""
COMMAND = (sys.executable, "-m", "merloco.pipelines.media.worker")


class Decoder(Protocol):
    """Where sound and pictures come from."""

    def read_audio(
        self, path: Path, start: float | None, end: float | None, sample_rate: int, down_mix: DownMix = "itu"
    ) -> AudioClip:
        """See `merloco.pipelines.media.audio.read_audio`."""
        ...

    def read_frames(self, path: Path, start: float | None, end: float | None, fps: float, side: str) -> Frames:
        """See `merloco.pipelines.media.video.read_frames`."""
        ...


class InlineDecoder:
    """Decoding in this process: for the single files of a prediction."""

    read_audio = staticmethod(read_audio)
    read_frames = staticmethod(read_frames)


class DecoderPool:
    """Child processes that decode; as many as there are threads that ask at one time.

    Args:
        time_limit: Seconds after which a child is killed and the sample has the status `timeout`.
        command: Starts a child that calls `merloco.pipelines.media.worker.serve`; the pipe's number is added to it.
        lifetime: Requests that one child answers.
    """

    def __init__(
        self, time_limit: float = TIME_LIMIT, command: Sequence[str] = COMMAND, lifetime: int = LIFETIME
    ) -> None:
        self.time_limit = time_limit
        self.command = tuple(command)
        self.lifetime = lifetime
        self._idle: list[_Child] = []
        self._lock = threading.Lock()

    def read_audio(
        self, path: Path, start: float | None, end: float | None, sample_rate: int, down_mix: DownMix = "itu"
    ) -> AudioClip:
        """See `Decoder.read_audio`; also raises `MediaError` with the codes `timeout` and `decoder_died`."""
        wave, info = self._request("audio", path, start=start, end=end, sample_rate=sample_rate, down_mix=down_mix)
        return AudioClip(wave, sample_rate, info)

    def read_frames(self, path: Path, start: float | None, end: float | None, fps: float, side: str) -> Frames:
        """See `Decoder.read_frames`; also raises `MediaError` with the codes `timeout` and `decoder_died`."""
        frames, info = self._request("frames", path, start=start, end=end, fps=fps, side=side)
        return Frames(frames, fps, info)

    @property
    def processes(self) -> list[int]:
        """Process ids of the children that wait for a request."""
        with self._lock:
            return [child.process.pid for child in self._idle]

    def close(self) -> None:
        """End the children that wait for a request."""
        with self._lock:
            for child in self._idle:
                child.kill()
            self._idle.clear()

    def _request(self, kind: str, path: Path, **arguments: Any) -> tuple[np.ndarray, DecodeInfo]:
        request = {"read": kind, "path": str(path), **arguments}
        for last in (False, True):
            with self._lock:
                child = self._idle.pop() if self._idle else None
            child = child or _Child(self.command)
            try:
                header, array = child.ask(request, self.time_limit)
            except TimeoutError:
                child.kill()
                raise MediaError("timeout", f"{path.name}: not decoded within {self.time_limit:g} s") from None
            except (EOFError, BrokenPipeError):
                reason = child.kill()
                if last:  # a child may die by another's fault, such as the memory of the machine: asked twice
                    raise MediaError("decoder_died", f"{path.name}: the decoder died twice ({reason})") from None
                continue
            except BaseException:
                child.kill()
                raise
            if child.answered >= self.lifetime:
                child.kill()
            else:
                with self._lock:
                    self._idle.append(child)
            if "code" in header:
                raise MediaError(header["code"], header["message"])
            return array, DecodeInfo(**header["info"])
        raise AssertionError("unreachable")


class _Child:
    """One decoder process."""

    def __init__(self, command: Sequence[str]) -> None:
        packages = str(Path(__file__).parent.parent)
        path = os.pathsep.join(filter(None, (packages, os.environ.get("PYTHONPATH"))))
        self.answers, sink = os.pipe()
        try:
            self.process = subprocess.Popen(
                [*command, str(sink)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[sink],
                env={**os.environ, "PYTHONPATH": path},
                bufsize=0,
            )
        finally:
            os.close(sink)
        assert self.process.stdin is not None
        self.requests = self.process.stdin
        self.answered = 0
        self._poll = select.poll()
        self._poll.register(self.answers, select.POLLIN | select.POLLHUP)
        with suppress(OSError):  # the kernel may allow less; it is only faster
            fcntl.fcntl(self.answers, fcntl.F_SETPIPE_SZ, PIPE)

    def ask(self, request: dict[str, Any], seconds: float) -> tuple[dict[str, Any], np.ndarray]:
        """Header and array of an answer.

        Raises:
            TimeoutError: It did not come in time.
            EOFError, BrokenPipeError: The process ended.
        """
        self.requests.write(json.dumps(request).encode() + b"\n")
        deadline = time.monotonic() + seconds
        (length,) = HEADER.unpack(self._receive(bytearray(HEADER.size), deadline))
        header = json.loads(self._receive(bytearray(length), deadline))
        array = np.empty(header["shape"], np.dtype(header["dtype"]))
        self._receive(array.reshape(-1).view(np.uint8), deadline)
        self.answered += 1
        return header, array

    def _receive(self, target: Any, deadline: float) -> Any:
        left = memoryview(target)
        while left:
            wait = deadline - time.monotonic()
            if wait <= 0 or not self._poll.poll(wait * 1000):
                raise TimeoutError
            count = os.readv(self.answers, [left])
            if count == 0:
                raise EOFError
            left = left[count:]
        return target

    def kill(self) -> str:
        """End the process; says how it had ended, if it had."""
        code = self.process.poll()
        if code is None:
            # The pipe can end a moment before the process does.
            try:
                self.requests.close()
                code = self.process.wait(0.2)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                self.process.kill()
                code = self.process.wait()
        os.close(self.answers)
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
