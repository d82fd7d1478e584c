"""Estimated cameras against exact poses: the rigid world, and LIBERO's wrist camera where the simulator and its files
are there.
"""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.cameras import estimated
from pipeline.cameras._clip import Clip
from pipeline.cameras._held_out import held_out, pairs_along
from pipeline.cameras._ransac_pose import Noise, Sighting, exponential, find_motion
from pipeline.evaluation.ground_truth import from_rigid_world
from pipeline.evaluation.run import evaluate
from pipeline.evaluation.sweep import choices
from pipeline.evaluation.synthetic_scene import RigidWorld, moving_card
from pipeline.recipe import QualityConfig
from schemas.cameras import Cameras, intrinsics_from_fov, invert_pose, lift, project, transform
from schemas.episode import BadEpisode, CameraView
from schemas.perception import DepthMaps
from schemas.plugins import PluginChoice

SAMPLES = Path(__file__).parents[3] / "shared/samples"
WORLD = moving_card(frames=14, size=(128, 96))


def solved(world: RigidWorld, frames: np.ndarray | None = None, known: bool = True, **options) -> Cameras:
    """What ``estimated`` makes of a world's pictures and depth; the poses are not given."""
    pictures = world.frames() if frames is None else frames
    view = CameraView(
        "camera", lambda: pictures, len(pictures), world.size, world.intrinsics if known else None, "given"
    )
    depth = DepthMaps(world.depth().astype(np.float32), "m", "made")
    return estimated.build(estimated.Config(**options)).solve(view, depth)


def errors(found: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """Largest error of a pose's turn in degrees and of its place in mm; both with the first camera as the world."""
    exact = invert_pose(exact[:1]) @ exact
    turn = (invert_pose(found) @ exact)[:, :3, :3] - np.eye(3)
    place = np.linalg.norm(found[:, :3, 3] - exact[:, :3, 3], axis=1)
    return float(np.degrees(np.linalg.norm(turn, axis=(1, 2)) / 2**0.5).max()), float(1000 * place.max())


def carried_card(world: RigidWorld) -> RigidWorld:
    """The card rides on the camera, as a gripper does on a wrist camera, over a third of the picture."""
    grip = np.eye(4)
    grip[:3, 3] = [0.03, 0.05, 0.3]
    ridden = replace(world, world_from_card=world.world_from_camera @ grip, half_side=0.09)
    assert np.mean(ridden.render(0)[1] < 0.35) > 0.33
    return ridden


@pytest.mark.parametrize("world", [WORLD, carried_card(WORLD)], ids=["card that moves", "card that is carried"])
def test_poses_of_a_moving_camera_are_found_to_a_fifth_of_a_degree_and_two_millimetres(world):
    found = solved(world)
    turn, place = errors(found.world_from_camera, world.world_from_camera)
    travelled = 1000 * np.linalg.norm(world.world_from_camera[-1, :3, 3])
    assert found.moving and travelled > 100
    assert turn < 0.2 and place < 2
    np.testing.assert_array_equal(found.world_from_camera[0], np.eye(4))
    assert "estimated from the background" in found.pose_source


def test_noise_of_two_per_cent_in_every_depth_costs_little():
    noisy = WORLD.depth() * (1 + 0.02 * np.random.default_rng(0).standard_normal((14, 96, 128)))
    pictures = WORLD.frames()
    view = CameraView("camera", lambda: pictures, len(WORLD), WORLD.size, WORLD.intrinsics, "given")
    solver = estimated.build(estimated.Config(depth_noise=0.03))
    found = solver.solve(view, DepthMaps(noisy.astype(np.float32), "m", "made"))
    turn, place = errors(found.world_from_camera, WORLD.world_from_camera)
    assert turn < 1 and place < 25


def test_errors_do_not_add_up_from_frame_to_frame():
    there = moving_card(frames=10, size=(128, 96)).world_from_camera
    back = np.concatenate([there, there[::-1]])
    world = replace(WORLD, world_from_camera=back, world_from_card=np.tile(WORLD.world_from_card[:1], (20, 1, 1)))
    turn, place = errors(solved(world).world_from_camera, back)
    assert turn < 0.2 and place < 3


def test_labels_with_estimated_poses_are_as_true_as_with_exact_ones():
    world = from_rigid_world(moving_card(frames=14, size=(128, 96)), "held", (0,), False, horizon=10)
    parts = {"tracker": ["lk"], "depth": ["recorded"], "camera": ["recorded", "estimated"]}
    chosen = {part: [PluginChoice(name) for name in names] for part, names in parts.items()}
    sources = choices([PluginChoice("tracked")], chosen)
    _, exact, found = evaluate("world", [world], sources, QualityConfig())
    for kind, kept in (("moving", 0.6), ("static", 0.95)):
        one, other = exact.metrics[kind], found.metrics[kind]
        assert one["kept"] > kept and other["kept"] > one["kept"] - 0.01
        assert other["cm"]["mean"] < 1.1 * one["cm"]["mean"] + 0.02
    assert found.metrics["false_movers"]["max"] <= exact.metrics["false_movers"]["max"] + 2


def explained(world: RigidWorld, poses: np.ndarray) -> list[float]:
    pictures = world.frames()
    view = CameraView("camera", lambda: pictures, len(pictures), world.size, world.intrinsics, "given")
    clip = Clip(view, DepthMaps(world.depth().astype(np.float32), "m", "made"))
    cameras = Cameras(world.intrinsics, poses, world.size, True, "given", "given")
    return [pair.explained for pair in held_out(clip, cameras, 0.03, pairs_along(len(pictures)))]


def test_points_that_had_no_part_tell_right_poses_from_wrong_ones():
    right = explained(WORLD, WORLD.world_from_camera)
    assert len(right) >= 2 and min(right) > 0.6
    turned = WORLD.world_from_camera.copy()
    turned[7:] = turned[7:] @ exponential(np.array([0, 0, 0, 0, np.radians(1.0), 0]))
    assert min(explained(WORLD, turned)) < 0.1, "2 px of 128"
    shifted = WORLD.world_from_camera.copy()
    shifted[7:, 2, 3] += 0.1
    assert min(explained(WORLD, shifted)) < 0.3, "7% of the depth"


def test_poses_that_do_not_explain_the_scene_are_refused_by_name():
    with pytest.raises(BadEpisode, match=r"from frame \d+ to frame \d+ .* explain \d+% .* 100% is expected") as error:
        solved(WORLD, min_explained=1.0)
    assert error.value.code == "unexplained_scene"
    assert "points not used" in solved(WORLD).pose_source
    assert "points not used" not in solved(WORLD, min_explained=None).pose_source


def test_a_camera_that_stands_still_is_said_to():
    found = solved(moving_card(frames=5, size=(128, 96), camera_moves=False))
    assert not found.moving and "stands still" in found.pose_source
    np.testing.assert_array_equal(found.world_from_camera, np.tile(np.eye(4), (5, 1, 1)))


def test_the_same_clip_gives_the_same_bytes():
    one, other = (solved(moving_card(frames=5, size=(96, 80))).world_from_camera.tobytes() for _ in range(2))
    assert one == other


@pytest.mark.parametrize("degrees", [8.0, 40.0])
def test_a_camera_that_jumps_is_named_with_the_frame(degrees):
    turn = exponential(np.array([0, 0, 0, 0, np.radians(degrees), 0]))
    poses = WORLD.world_from_camera[:8].copy()
    poses[5:] = poses[5:] @ turn
    world = replace(WORLD, world_from_camera=poses, world_from_card=WORLD.world_from_card[:8])
    with pytest.raises(BadEpisode, match=r"frame 4 .*frame 5") as error:
        solved(world, jump_degrees=5.0)
    assert error.value.code == "camera_jump"


def test_frames_without_depth_are_placed_between_their_neighbours():
    depth = WORLD.depth().astype(np.float32)
    depth[[6, 7, 13]] = np.nan
    pictures = WORLD.frames()
    view = CameraView("camera", lambda: pictures, len(pictures), WORLD.size, WORLD.intrinsics, "given")
    found = estimated.build(estimated.Config()).solve(view, DepthMaps(depth, "m", "made"))
    turn, place = errors(found.world_from_camera[:13], WORLD.world_from_camera[:13])
    assert turn < 0.3 and place < 4
    assert "3 frames without depth" in found.pose_source


def test_a_bare_picture_is_refused_by_name():
    with pytest.raises(BadEpisode, match="0 corners with depth, 32 are needed") as error:
        solved(WORLD, np.full((14, 96, 128, 3), 90, np.uint8))
    assert error.value.code == "no_background"


def test_an_unknown_field_of_view_is_found_where_the_motion_says_it():
    exact = 2 * np.degrees(np.arctan(WORLD.size[1] / 2 / WORLD.intrinsics[1, 1]))
    found = solved(WORLD, known=False)
    measured = 2 * np.degrees(np.arctan(WORLD.size[1] / 2 / found.intrinsics[1, 1]))
    assert abs(measured - exact) < 0.04 * exact
    assert "estimated from tracks and depth" in found.intrinsics_source


def test_an_unknown_field_of_view_is_not_guessed_and_can_be_given():
    still = moving_card(frames=6, size=(96, 80), camera_moves=False)
    with pytest.raises(BadEpisode, match="fov_y=DEGREES") as error:
        solved(still, known=False)
    assert error.value.code == "no_intrinsics"
    given = solved(still, known=False, fov_y=45.0)
    np.testing.assert_allclose(given.intrinsics, intrinsics_from_fov(45.0, 96, 80))
    assert "as configured" in given.intrinsics_source


def test_a_motion_is_found_exactly_where_most_square_metres_agree_although_most_points_do_not():
    rng = np.random.default_rng(3)
    k = intrinsics_from_fov(60.0, 200, 160)
    pose = exponential(np.array([0.02, -0.01, 0.03, 0.05, -0.04, 0.02]))
    far = np.c_[rng.uniform(10, 190, 40), rng.uniform(10, 150, 40), rng.uniform(1.0, 1.5, 40)]
    near = np.c_[rng.uniform(10, 190, 60), rng.uniform(10, 150, 60), rng.uniform(0.2, 0.3, 60)]  # carried along
    seen = np.concatenate([project(transform(pose, lift(far, k)), k), near])
    uvz = np.concatenate([far, near])
    sighting = Sighting(uvz, seen, uvz[:, 2] ** 2)
    found, agree, share = find_motion(sighting, k, Noise(0.5, 0.01), np.eye(4)[None])
    np.testing.assert_allclose(found, pose, atol=1e-7)
    assert agree[:40].all() and not agree[40:].any() and share > 0.9


@pytest.mark.parametrize(
    "option",
    [
        {"fov_y": 0.0},
        {"depth_noise": 0.0},
        {"jump_degrees": -1.0},
        {"jump_share": 0.0},
        {"min_points": 3},
        {"min_explained": 0.0},
    ],
)
def test_nonsense_is_refused_with_the_field_named(option):
    with pytest.raises(ValueError, match=f"estimated.{next(iter(option))}"):
        estimated.Config(**option)


def with_texture(xml: str) -> str:
    """The sample's textures are cut to 8 x 8 pixels;
    dots in their place give the background something to be known by.
    """
    root = ElementTree.fromstring(xml)
    for texture in root.iter("texture"):
        for name in [n for n in texture.attrib if n.startswith(("file", "grid"))]:
            del texture.attrib[name]
        height = "768" if texture.get("type") == "cube" else "128"
        dots = {"builtin": "flat", "rgb1": ".6 .5 .4", "mark": "random", "markrgb": ".1 .1 .2", "random": "0.1"}
        texture.attrib.update({**dots, "width": "128", "height": height})
    return ElementTree.tostring(root, encoding="unicode")


def test_liberos_wrist_camera_is_found_to_half_a_degree_and_two_millimetres():
    from pipeline.readers import libero
    from pipeline.simulator.model import AssetFolders, load_model
    from pipeline.simulator.rendering import SceneCamera
    from pipeline.simulator.replay import Replay

    root, size, name = SAMPLES / "libero" / "libero_spatial", (128, 128), "robot0_eye_in_hand"
    if not root.is_dir():
        pytest.skip("the LIBERO-Spatial sample is not here")
    reader = libero.build(libero.Config())
    episode = reader.read(next(iter(reader.list_episodes(root))))
    recorded = episode.views[episode.primary].simulation
    xml, states = recorded.read()
    try:
        model = load_model("sample", with_texture(xml), AssetFolders(None, SAMPLES / "libero_assets"))
    except BadEpisode as missing:
        pytest.skip(str(missing))
    replay = Replay("sample", model, states[20:36], name, size)
    eye = SceneCamera(model, name, size)
    depth = replay.see(eye).depth
    eye.close()
    eye = SceneCamera(model, name, size, smooth=True)
    frames = replay.pictures(eye)
    eye.close()
    view = CameraView("wrist", lambda: frames, len(frames), size, replay.motion.intrinsics, "the simulator")
    found = estimated.build(estimated.Config()).solve(view, DepthMaps(depth, "m", "rendered"))
    exact = replay.motion.world_from_camera
    turn, place = errors(found.world_from_camera, exact)
    assert np.linalg.norm(np.diff(exact[:, :3, 3], axis=0), axis=1).sum() > 0.08
    assert turn < 0.5 and place < 2
