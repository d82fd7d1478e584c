"""Laws of the small squares by which points are recognised."""

import cv2
import numpy as np

from pipeline.vision.patches import PATCH, grey_clip, patch_distance, patches

CLIP = np.random.default_rng(0).integers(0, 255, (4, 30, 40), np.uint8)


def test_grey_is_opencvs():
    frames = np.random.default_rng(1).integers(0, 255, (3, 8, 9, 3), np.uint8)
    expected = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    np.testing.assert_array_equal(grey_clip(frames), expected)


def test_a_patch_at_a_pixels_centre_is_the_pixels_around_it():
    centre = np.array([[20.5, 10.5]])
    (found,) = patches(CLIP, np.array([2]), centre)
    np.testing.assert_array_equal(found.reshape(PATCH, PATCH), CLIP[2, 8:13, 18:23])


def test_between_pixels_and_beyond_the_border_it_is_what_opencv_interpolates():
    centres = np.random.default_rng(2).uniform(-3, 43, (200, 2)) * [1, 0.8]
    frames = np.arange(200) % 4
    offsets = np.stack(np.meshgrid(*[np.arange(PATCH) - PATCH // 2] * 2), -1).reshape(-1, 2)
    for frame in range(4):
        mine = frames == frame
        at = (centres[mine][:, None] + offsets - 0.5).astype(np.float32)
        expected = cv2.remap(
            CLIP[frame].astype(np.float32), at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        # OpenCV rounds places to 1/32 px.
        np.testing.assert_allclose(patches(CLIP, frames[mine], centres[mine]), expected, atol=255 / 16)
        assert np.abs(patches(CLIP, frames[mine], centres[mine]) - expected).mean() < 2


def test_unlikeness_is_the_mean_difference():
    one = np.zeros((2, PATCH * PATCH), np.float32)
    other = one.copy()
    other[1] = 4
    np.testing.assert_array_equal(patch_distance(one, other), [0, 4])
