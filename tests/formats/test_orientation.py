"""Stored pictures come upright: each way of storing is undone by its own inverse."""

import cv2
import numpy as np
import pytest

from pipeline.formats.orientation import upright_view
from schemas.episode import CameraView, RecordedDepth
from schemas.flips import upright

SCENE = np.random.default_rng(0).integers(0, 255, (2, 4, 6, 3), dtype=np.uint8)
STORED = {  # made with OpenCV, which shares nothing with the code
    "upright": lambda image: image,
    "upside-down": lambda image: cv2.flip(image, 0),
    "mirrored": lambda image: cv2.flip(image, 1),
    "rotated-90": lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    "rotated-180": lambda image: cv2.rotate(image, cv2.ROTATE_180),
    "rotated-270": lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


@pytest.mark.parametrize("orientation", STORED)
def test_the_scene_is_seen_as_it_was(orientation):
    stored = np.stack([STORED[orientation](image) for image in SCENE])
    assert np.array_equal(upright(stored, orientation), SCENE)


@pytest.mark.parametrize("orientation", STORED)
def test_a_views_pictures_depth_and_size_turn_together(orientation):
    stored = np.stack([STORED[orientation](image) for image in SCENE])
    depth = stored[..., 0].astype(np.float32)
    view = CameraView(
        "a", lambda: stored, 2, (stored.shape[2], stored.shape[1]), depth=RecordedDepth(lambda: depth, "m", "x")
    )
    view = upright_view(view, orientation)
    assert view.size == (6, 4)
    assert np.array_equal(view.frames, SCENE)
    assert view.depth is not None and np.array_equal(view.depth.read(), SCENE[..., 0].astype(np.float32))
