"""Random changes of training samples keep image, motion and camera together."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.shard import random_triplet

from lamp_model.data.augmentation import Augmentation, Augmenter, Colour, Crop
from lamp_model.data.sample import SampleConfig, to_sample
from pipeline.evaluation.synthetic_scene import moving_card
from schemas.cameras import lift
from schemas.scene_flow import SceneFlow, keypoint_grid

GRID, HORIZON = 20, 8
CROPS = [Crop(0.0, 0.0, 1.0), Crop(0.03, 0.07, 0.9), Crop(0.2, 0.05, 0.75)]


@pytest.fixture(scope="module")
def world():
    return moving_card()


def test_nothing_cropped_changes_no_point(world):
    flow = world.flow(0, keypoint_grid(*world.size, GRID), HORIZON)
    made = Crop(0, 0, 1).flow(flow, world.intrinsics, world.size)
    assert np.array_equal(made.visible, flow.visible) and np.array_equal(made.valid, flow.valid)
    np.testing.assert_allclose(made.uvz, flow.uvz, atol=1e-12)


@pytest.mark.parametrize("crop", CROPS)
def test_moved_positions_lift_to_the_same_points_in_space(world, crop):
    uvz = world.flow(0, keypoint_grid(*world.size, GRID), HORIZON).uvz
    pixels = [*world.size, 1]
    before = lift(uvz * pixels, world.intrinsics)
    after = lift(crop.moved(uvz) * pixels, crop.intrinsics(world.intrinsics, world.size))
    np.testing.assert_allclose(after, before, atol=1e-12)


@pytest.mark.parametrize("crop", CROPS[1:])
def test_the_motion_of_the_cropped_grid_is_that_of_the_points_seen_there(world, crop):
    """The exact flow of the world at the pixels that the cropped image's keypoints show."""
    flow = world.flow(0, keypoint_grid(*world.size, GRID), HORIZON)
    made = crop.flow(flow, world.intrinsics, world.size)
    seen = keypoint_grid(*world.size, GRID) * crop.share + np.array([crop.left, crop.top]) * world.size
    truth = world.flow(0, seen, HORIZON)
    after = lift(made.uvz * [*world.size, 1], crop.intrinsics(world.intrinsics, world.size))
    before = lift(truth.uvz * [*world.size, 1], world.intrinsics)
    error = np.linalg.norm(after - before, axis=-1)
    assert made.valid.mean() > 0.75 and error[made.valid].max() < 1e-6
    moving = np.linalg.norm(before - before[:, :1], axis=-1).max(1) > 0.02
    assert made.valid[moving].any()
    np.testing.assert_allclose(made.uvz[:, 0, :2] * world.size, keypoint_grid(*world.size, GRID), atol=1e-6)


def test_motion_across_an_edge_or_beside_an_unknown_keypoint_is_masked(world):
    flow = world.flow(0, keypoint_grid(*world.size, GRID), HORIZON)
    hole = flow.valid.copy()
    hole[5 * GRID + 5, 3:] = False
    z = flow.uvz.copy()
    z[10 * GRID + 10, :, 2] *= 0.5
    crop = Crop(0.05, 0.05, 0.9)
    made = crop.flow(SceneFlow(z, flow.visible, hole), world.intrinsics, world.size)
    nodes = crop.moved(np.concatenate([keypoint_grid(*world.size, GRID) / world.size, np.ones((GRID**2, 1))], 1))
    for number, steps in ((5 * GRID + 5, slice(3, None)), (10 * GRID + 10, slice(None))):
        near = np.abs(made.uvz[:, 0, :2] - nodes[number, :2]).max(1) < 0.6 / GRID / crop.share
        assert near.any() and not made.valid[near, steps].any()
    assert made.valid[:, 1].sum() > made.valid[:, 4].sum()


def test_pictures_and_points_move_together():
    """A bright square stays on the keypoint that lies in its middle."""
    image = np.zeros((100, 200, 3), np.uint8)
    image[48:53, 118:123] = 255
    crop = Crop(0.3, 0.1, 0.6)
    seen = crop.image(image)[..., 0].astype(float)
    rows, columns = np.mgrid[:100, :200] + 0.5
    middle = np.array([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum()
    expected = crop.moved(np.array([120.5 / 200, 50.5 / 100, 1.0]))[:2] * [200, 100]
    np.testing.assert_allclose(middle, expected, atol=0.02)


def test_colour_changes_pixels_and_nothing_else():
    triplet = random_triplet(0, 0)
    config = SampleConfig(("image", "wrist"), 10, 400, 32)
    plain = to_sample(triplet, config, "x")
    drawn = Augmenter(0, 0.0, 0.4, config.cameras).draw(3, 1)
    changed = to_sample(triplet, config, "x", change=drawn)
    assert all(not a.equal(b) for a, b in zip(plain.images, changed.images, strict=True))
    for name in ("motion", "motion_mask", "state", "actions", "action_mask"):
        assert getattr(plain, name).equal(getattr(changed, name))
    assert np.array_equal(plain.scenes[0].intrinsics, changed.scenes[0].intrinsics)
    image = plain.images[0][0].numpy()
    assert np.array_equal(Colour(1, 1, 1).image(image), image)


def test_a_cropped_sample_has_its_own_camera_and_no_other_actions():
    triplet = random_triplet(1, 0)
    flat = triplet.flow.uvz.copy()
    flat[..., 2] = 1  # a plane in front of the camera
    triplet = replace(triplet, flow=replace(triplet.flow, uvz=flat))
    config = SampleConfig(("image", "wrist"), 10, 400, 32)
    crop = Crop(0.05, 0.02, 0.9)
    plain = to_sample(triplet, config, "x")
    made = to_sample(triplet, config, "x", change=Augmentation({"image": crop}, None))
    assert plain.images[1].equal(made.images[1]) and not plain.images[0].equal(made.images[0])
    assert plain.actions.equal(made.actions) and made.motion_mask.any()
    np.testing.assert_allclose(
        made.scenes[0].intrinsics, crop.intrinsics(triplet.camera.intrinsics, triplet.camera.size)
    )


def test_what_is_drawn_depends_on_seed_epoch_and_position_only():
    augmenter = Augmenter(7, 0.1, 0.2, ("image", "wrist"))
    assert augmenter.draw(5, 3) == augmenter.draw(5, 3)
    others = [augmenter.draw(5, 4), augmenter.draw(6, 3), Augmenter(8, 0.1, 0.2, ("image", "wrist")).draw(5, 3)]
    assert all(other != augmenter.draw(5, 3) for other in others)
    for place in range(50):
        drawn = augmenter.draw(0, place)
        assert all(0.9 <= c.share <= 1 and 0 <= c.left <= 1 - c.share for c in drawn.crops.values())
        assert drawn.colour is not None and 0.8 <= drawn.colour.brightness <= 1.2
