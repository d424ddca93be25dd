"""Reading a shard's tar as data that somebody may have tampered with: names are checked, arrays hold no objects."""

from __future__ import annotations

import io
import math
import re
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from tokenize import TokenError

import numpy as np

from merloco.pipelines.errors import DataError
from merloco.pipelines.samples.schema import SAMPLE_ID

KIND = re.compile(r"[a-z0-9_]+\.npy|json")
"""What merloco writes beside a key: arrays and one JSON object."""


class UnsafeNameError(DataError):
    """A tar holds something that merloco would not have written."""


def tar_files(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Key (the sample id), kind (`segments.npy`, `json`, ...) and content of each file of a shard's tar, in order.

    Raises:
        DataError: The tar ends early or is broken.
        UnsafeNameError: It has a member that merloco would not have written: a link, a device, a folder, an absolute
            name, one with `..`, or one that is no sample id with a known kind.
    """
    try:
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                key, _, kind = member.name.partition(".")
                stream = tar.extractfile(member) if member.isreg() else None
                if stream is None or not SAMPLE_ID.fullmatch(key) or not KIND.fullmatch(kind):
                    raise UnsafeNameError(
                        f"{path}: unsafe member {member.name!r}: expected regular files named by sample id and "
                        f"`.json` or `.<name>.npy`"
                    )
                yield key, kind, stream.read()
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{path}: broken tar ({error}): run `merloco check`") from None


def read_array(content: bytes, where: str) -> np.ndarray:
    """An array from the bytes of an `.npy` file; arrays of Python objects, which are pickles, are refused.

    Raises:
        DataError: The bytes are no array of numbers.
    """
    try:
        start = 10 + int.from_bytes(content[8:10], "little")
        shape, fortran, dtype = _header(content[:start])
        if dtype.hasobject:
            raise ValueError("Object arrays cannot be loaded")
        array = np.frombuffer(content, dtype, math.prod(shape), start)
        return array.reshape(shape, order="F" if fortran else "C").copy("K")
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where}: not an array of numbers ({error})") from None


@lru_cache(maxsize=4096)
def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of an array by its header, which numpy takes longer to parse than to read an array.

    merloco's are of version 1: they are shorter than 64 kB.
    """
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("a header of another version than 1.0")
    try:
        return np.lib.format.read_array_header_1_0(stream)
    except (SyntaxError, TypeError, MemoryError, RecursionError, TokenError) as error:  # Python's own parser reads it
        raise ValueError(f"a broken header: {error}") from None
