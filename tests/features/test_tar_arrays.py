"""Arrays from the bytes of an `.npy` file: what numpy saves comes back, and anything else is one sentence."""

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from merloco.features.shards.tar import read_array
from merloco.pipelines.errors import DataError


def saved(array: np.ndarray, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


NUMBERS = st.sampled_from(["<f4", ">f4", "<f8", "<i8", "u1", "?", "<c8"])


@given(array=arrays.arrays(NUMBERS, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)), fortran=st.booleans())
def test_what_numpy_saves_comes_back(array: np.ndarray, fortran: bool) -> None:
    array = np.asarray(array, order="F" if fortran else "C")
    loaded = read_array(saved(array), "x")
    assert loaded.dtype == array.dtype and loaded.shape == array.shape
    assert loaded.tobytes() == array.tobytes()
    assert loaded.flags.writeable


WHOLE = saved(np.arange(12, dtype=np.float32).reshape(3, 4))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        WHOLE[:40],
        WHOLE[:-1],
        b"PK\x03\x04" + WHOLE,
        saved(np.array([{"a": 1}], dtype=object), allow_pickle=True),
        WHOLE.replace(b"(3, 4)", b"(9, 4)"),
        WHOLE.replace(b"(3, 4)", b"('a',)"),
        WHOLE.replace(b"(3, 4), ", b"(" + b"9" * 6 + b"),"),
        WHOLE.replace(b"<f4", b"zz9"),
        WHOLE.replace(b"NUMPY\x01", b"NUMPY\x03"),
        b"\x93NUMPY\x01\x00\x76\x00" + b"(" * 118,
    ],
)
def test_anything_else_is_one_sentence(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^here: not an array of numbers"):
        read_array(content, "here")


@given(content=st.binary(max_size=200))
def test_any_bytes_are_an_array_or_one_sentence(content: bytes) -> None:
    for start in (b"", WHOLE[:10], WHOLE[:60]):
        with suppress(DataError):
            read_array(start + content, "here")
