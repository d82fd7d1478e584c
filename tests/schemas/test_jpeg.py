"""The one decoder of JPEG pictures, held to OpenCV's."""

import cv2
import numpy as np
import pytest

from schemas.jpeg import decode_jpeg


def encoded(height=40, width=56, *options):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (5, 7, 3), np.uint8)
    picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", picture, list(options))[1].tobytes()


@pytest.mark.parametrize(
    "options",
    [
        (),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    ],
)
def test_pixels_are_those_of_opencv(options):
    data = encoded(41, 57, *options)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(decode_jpeg(data), expected)
    place = np.empty((41, 57, 3), np.uint8)
    assert decode_jpeg(memoryview(data), place) is place and np.array_equal(place, expected)
    assert decode_jpeg(data, np.empty((40, 57, 3), np.uint8)).shape == (41, 57, 3)


def test_grey_pictures_become_three_colours():
    data = cv2.imencode(".jpg", np.full((8, 8), 77, np.uint8))[1].tobytes()
    assert (decode_jpeg(data) == 77).all() and decode_jpeg(data).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda d: d[: len(d) // 2], "was cut short"),
        (lambda d: b"nothing", "is damaged"),
        (lambda d: b"", "is damaged"),
        (lambda d: d.replace(b"\x00\x28\x00\x38", b"\xea\x60\xea\x60", 1), "it claims 60000 x 60000 pixels"),
    ],
)
def test_damage_is_refused(damage, says):
    with pytest.raises(ValueError, match=says):
        decode_jpeg(damage(encoded()))
