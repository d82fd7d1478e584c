"""Encoded pictures: the same pixels as another decoder's, damage a fault and never grey."""

import cv2
import numpy as np
import pytest
from fixtures.rlds import jpeg, textured
from PIL import Image

from pipeline.formats.images import decode_picture, decode_pictures
from schemas.episode import BadEpisode


def encoded(image, kind=".jpg", *options):
    ok, data = cv2.imencode(kind, image[..., ::-1] if image.ndim == 3 else image, list(options))
    assert ok
    return data.tobytes()


@pytest.mark.parametrize("sampling", [cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444])
@pytest.mark.parametrize("progressive", [0, 1])
def test_pixels_are_those_of_another_decoder(sampling, progressive):
    options = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    data = encoded(textured(50, 70), ".jpg", *options)
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(decode_picture("x", data), other)


def test_grey_and_png_pictures_are_rgb():
    grey = textured(40, 40)[..., 0]
    assert np.abs(decode_picture("x", encoded(grey)).astype(int) - grey[..., None]).mean() < 4
    assert np.array_equal(decode_picture("x", encoded(textured(40, 40), ".png")), textured(40, 40))


def test_an_orientation_tag_is_not_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(textured(40, 60)).save(tmp_path / "x.jpg", exif=exif, quality=95)
    assert decode_picture("x", (tmp_path / "x.jpg").read_bytes()).shape == (40, 60, 3)


def test_all_pictures_and_some_of_them():
    images = [textured(40, 60, seed) for seed in range(5)]
    data = [encoded(image, ".png" if number == 2 else ".jpg") for number, image in enumerate(images)]
    frames = decode_pictures("x", data)
    assert frames.shape == (5, 40, 60, 3) and np.abs(frames[4].astype(int) - images[4]).mean() < 6
    assert np.array_equal(frames[2], images[2])
    assert np.array_equal(decode_pictures("x", data, np.array([1, 3])), frames[[1, 3]])


WHOLE = jpeg(textured(64, 64)).getvalue()
MIDDLE = len(WHOLE) // 2


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (WHOLE[:MIDDLE], "was cut short"),
        (WHOLE[:-2], "was cut short"),
        (WHOLE[:MIDDLE] + b"\xff\xd9" + WHOLE[MIDDLE + 2 :], "was cut short"),  # an end before the end
        (WHOLE[:MIDDLE] + WHOLE[MIDDLE + 200 :], "was cut short"),
        (WHOLE[:MIDDLE] + WHOLE[MIDDLE - 200 :], "is damaged"),
        (WHOLE[:100], "is damaged"),
        (b"", "is no JPEG or PNG"),
        (b"\xff\xd8", "is damaged"),
        (b"<html>", "is no JPEG or PNG"),
    ],
)
def test_damage_is_a_fault_and_no_grey_picture(capfd, data, says):
    with pytest.raises(BadEpisode, match=says) as error:
        decode_pictures("a camera", [WHOLE, data])
    assert error.value.code == "bad_picture" and "frame 1" in str(error.value)
    assert not capfd.readouterr().err, "and no decoder's warning beside it"


def test_a_picture_of_another_size_is_a_fault():
    with pytest.raises(BadEpisode, match="frame 1 is 30 x 20, the first is 64 x 64"):
        decode_pictures("x", [WHOLE, encoded(textured(20, 30))])


def test_a_picture_that_claims_to_be_huge_is_not_decoded():
    at = WHOLE.index(b"\xff\xc0") + 5
    with pytest.raises(BadEpisode, match="claims 65000 x 65000"):
        decode_picture("x", WHOLE[:at] + (65000).to_bytes(2, "big") * 2 + WHOLE[at + 4 :])
