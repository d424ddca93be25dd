"""A decoder process that dies or hangs on some files, as native decoders do."""

import os
import signal
import sys
import time
from pathlib import Path

from merloco.pipelines.media.audio import read_audio
from merloco.pipelines.media.clips import AudioClip
from merloco.pipelines.media.video import read_frames
from merloco.pipelines.media.worker import serve


def read_poisoned(path: Path, **arguments: object) -> AudioClip:
    if "crash" in path.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in path.name:
        time.sleep(600)
    if "once" in path.name and path.exists():
        path.rename(path.with_name("twice.wav"))
        os._exit(3)
    return read_audio(path.with_name("twice.wav") if "once" in path.name else path, **arguments)


if __name__ == "__main__":
    print("native libraries print what they like")
    serve(int(sys.argv[-1]), {"audio": read_poisoned, "frames": read_frames})
