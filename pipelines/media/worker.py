"""The decoder process: takes requests on standard input, sends sound and pictures back. Run by `media.pool`.

A decoder is native code that reads what strangers wrote: it may crash, hang or grow. In a process of its own, that
costs one sample. The protocol is JSON and raw bytes, so that nothing which comes back is ever executed.

Request: one line of JSON, `{"read": "audio" | "frames", ...arguments of read_audio or read_frames}`.
Answer, on a pipe of its own (libraries print what they like): 4 bytes, the length of a JSON header; the header; the
array's bytes.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from merloco.pipelines.media.audio import read_audio
from merloco.pipelines.media.clips import AudioClip, Frames
from merloco.pipelines.media.probe import MediaError
from merloco.pipelines.media.video import read_frames

HEADER = struct.Struct("<I")
PARENT_POLL = 1.0
"""Seconds between looks whether the parent still lives."""

Readers = Mapping[str, Callable[..., AudioClip | Frames]]
READERS: Readers = {"audio": read_audio, "frames": read_frames}


def serve(pipe: int, readers: Readers = READERS) -> None:
    """Answer requests until standard input ends.

    Args:
        pipe: File descriptor that answers go to: the last argument on the command line.
        readers: What each kind of request calls.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    # From here on what decoders print about a file is in its row; until here, why a process does not start is heard.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    threading.Thread(target=_exit_with, args=(os.getppid(),), daemon=True).start()
    with os.fdopen(pipe, "wb") as answers:
        for line in sys.stdin.buffer:
            _answer(answers, readers, json.loads(line))


def _exit_with(parent: int) -> None:
    """End this process when the parent is gone, even in the middle of a decoder that hangs."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL)
    os._exit(0)


def _answer(answers: BinaryIO, readers: Readers, request: dict[str, Any]) -> None:
    read = readers[request.pop("read")]
    request["path"] = Path(request["path"])
    array = np.zeros(0, np.uint8)
    try:
        clip = read(**request)
        array = clip.wave if isinstance(clip, AudioClip) else clip.frames
        header: dict[str, Any] = {"info": asdict(clip.info)}
    except MediaError as error:
        header = {"code": error.code, "message": str(error)}
    except Exception as error:  # a decoder's own surprise is a fact about the file, not the end of the process
        name = request["path"].name
        header = {"code": "decode_error", "message": f"{name}: {type(error).__name__}: {' '.join(str(error).split())}"}
    header |= {"shape": array.shape, "dtype": array.dtype.str}
    text = json.dumps(header).encode()
    answers.write(HEADER.pack(len(text)) + text)
    answers.write(np.ascontiguousarray(array).data)
    answers.flush()


if __name__ == "__main__":
    serve(int(sys.argv[-1]))
