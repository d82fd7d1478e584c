"""Headers that are made here are, byte for byte, those of the libraries that made them before."""

import io
import tarfile

import numpy as np
import pytest

from schemas.sample_arrays import array_bytes
from schemas.shard_formats.webdataset import pack_sample


@pytest.mark.parametrize("size", [0, 1, 511, 512, 70_000])
def test_a_tar_header_is_tarfiles(size):
    entry = tarfile.TarInfo("0123456789abcdef-front-000001.image.jpg")
    entry.size, entry.mtime, entry.mode = size, 0, 0o644
    packed = pack_sample("0123456789abcdef-front-000001", {"image.jpg": b"x" * size})
    assert packed[:512] == entry.tobuf(tarfile.USTAR_FORMAT)
    assert len(packed) == 512 + -(-size // 512) * 512


def test_a_name_of_100_bytes_fits_and_a_longer_one_is_refused():
    pack_sample("k" * 95, {"json": b""})
    with pytest.raises(ValueError, match="too long"):
        pack_sample("k" * 96, {"json": b""})


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.zeros((32, 0), np.float32),
        np.array(3, np.float32),
        np.arange(12, dtype=np.float32).reshape(3, 4).T,
        np.arange(12, dtype=np.int16)[::2],
    ],
)
def test_an_array_is_numpys(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    assert array_bytes(array) == buffer.getvalue()
