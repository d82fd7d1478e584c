"""Depth of demonstrations in metres and as a z-buffer: never one read as the other."""

import numpy as np
import pytest
from fixtures.libero import Demo, replace, shipped, write_file

from pipeline.readers._simulator_depth import HandInView, SimulatorDepth, metres_of
from pipeline.readers.libero import Config, LiberoReader
from schemas.episode import BadEpisode

KEY = "obs/agentview_depth"
FRAMES = 6
NEAR, FAR = 0.0106, 530.0


def exact(frames=FRAMES):
    """What the shipped z-buffer is in metres, upright."""
    attributes = shipped(0)["depth"]
    buffer = shipped(0)["arrays"][KEY][:frames, ::-1, :, 0].astype(np.float64)
    near, far = attributes["znear_m"], attributes["zfar_m"]
    return (near / (1 - buffer * (1 - near / far))).astype(np.float32)


def in_metres(file, scale=1.0):
    """``scale`` brings the whole scene nearer, camera, hand and all."""
    replace(file, KEY, (exact() * scale)[:, ::-1, :, None])
    if scale != 1:
        demo = file["data/demo_0"]
        demo.attrs["model_file"] = scaled_camera(demo.attrs["model_file"], scale)
        replace(file, "obs/ee_states", demo["obs/ee_states"][:] * ([scale] * 3 + [1] * 3))


def scaled_camera(model, scale):
    import re

    def smaller(match):
        return match[1] + " ".join(str(float(x) * scale) for x in match[2].split()) + match[3]

    found = re.sub(r'(<camera [^>]*name="agentview"[^>]*pos=")([^"]+)(")', smaller, model)
    if found == model:
        found = re.sub(r'(<camera [^>]*pos=")([^"]+)("[^>]*name="agentview")', smaller, model)
    assert found != model
    return found


def depth_of(folder, change=None, **options):
    write_file(folder / "x_demo.hdf5", [Demo(frames=FRAMES)], change)
    reader = LiberoReader(Config(**options))
    (ref,) = reader.list_episodes(folder)
    return reader.read(ref).views["agentview"].depth


def refusal(depth):
    with pytest.raises(BadEpisode) as error:
        depth.some(np.array([0]))
    assert error.value.code == "depth_unit"
    return str(error.value)


def test_a_z_buffer_is_read_as_one(tmp_path):
    assert np.allclose(depth_of(tmp_path).read(), exact(), rtol=1e-3)


def test_metres_are_refused_with_the_option_that_says_so(tmp_path):
    said = refusal(depth_of(tmp_path, in_metres))
    assert (
        "x_demo.hdf5:demo_0: agentview_depth holds values up to 2." in said
        and "none above 1" in said
        and "--dataset-options depth_unit=metres" in said
    )


def test_metres_are_read_as_they_stand_where_that_is_said(tmp_path):
    depth = depth_of(tmp_path, in_metres, depth_unit="metres")
    assert np.allclose(depth.read(), exact()) and depth.description == "metres, as configured"
    assert np.array_equal(depth.some(np.array([4, 1])), depth.read()[[4, 1]])


def test_metres_of_a_near_camera_are_told_by_the_hand_though_no_value_is_above_1(tmp_path):
    depth = depth_of(tmp_path / "a", lambda file: in_metres(file, 0.3))
    assert exact().max() * 0.3 < 1
    assert "off where the camera sees the hand" in refusal(depth)
    depth = depth_of(tmp_path / "b", lambda file: in_metres(file, 0.3), depth_unit="metres")
    assert np.allclose(depth.read(), exact() * 0.3)


def test_a_z_buffer_is_not_read_as_metres_where_the_hand_tells(tmp_path):
    """The shipped camera is a metre from the scene, where both readings are near each other; a farther one is not."""

    def farther(file):
        demo = file["data/demo_0"]
        demo.attrs["model_file"] = scaled_camera(demo.attrs["model_file"], 2)
        replace(file, "obs/ee_states", demo["obs/ee_states"][:] * ([2] * 3 + [1] * 3))
        buffer = (1 - NEAR / (exact() * 2)) / (1 - NEAR / FAR)
        replace(file, KEY, buffer[:, ::-1, :, None].astype(np.float32))
        file[f"data/demo_0/{KEY}"].attrs.update(znear_m=NEAR, zfar_m=FAR)

    assert "--dataset-options depth_unit=z-buffer where it holds a z-buffer" in refusal(
        depth_of(tmp_path, farther, depth_unit="metres")
    )


def test_metres_need_no_planes(tmp_path):
    def change(file):
        in_metres(file)
        del file[f"data/demo_0/{KEY}"].attrs["zfar_m"]

    assert depth_of(tmp_path / "a", change) is None
    assert np.allclose(depth_of(tmp_path / "b", change, depth_unit="metres").read(), exact())


def of_unknown_pose(stored, said=False):
    return SimulatorDepth(
        "a", lambda n: stored if n is None else stored[n], len(stored), "z-buffer", said, (NEAR, FAR), None
    )


def test_without_a_pose_a_picture_that_would_be_within_three_near_planes_is_refused():
    metres = np.linspace(0.05, 0.6, 4 * 8 * 8, dtype=np.float32).reshape(4, 8, 8)
    with pytest.raises(BadEpisode, match=r"half of the picture nearer than 0\.0\d+ m, at a near plane of 0\.011 m"):
        of_unknown_pose(metres).read()
    insisted = of_unknown_pose(metres, said=True).read()
    assert np.allclose(insisted, metres_of(metres, NEAR, FAR))


def test_one_value_above_1_in_any_frame_is_enough_and_what_is_not_finite_is_none():
    buffer = np.full((9, 8, 8), 0.97, np.float32)
    buffer[0, 0, :3] = np.nan, np.inf, 1
    assert np.isnan(of_unknown_pose(buffer).read()[0, 0, :3]).all()
    buffer[5, 3, 3] = 1.5
    with pytest.raises(BadEpisode, match=r"values up to 1\.5, and a z-buffer has none above 1"):
        of_unknown_pose(buffer).read()


def metres_by_default(stored, hand=None):
    read = lambda n: stored if n is None else stored[n]  # noqa: E731
    return SimulatorDepth("a", read, len(stored), "metres", False, (NEAR, FAR), hand)


def test_metres_by_default_need_a_value_above_1_or_the_hand():
    near = np.full((4, 8, 8), 0.7, np.float32)
    far = near * 2
    assert np.array_equal(metres_by_default(far).read(), far)
    with pytest.raises(BadEpisode, match=r"no value above 1.*depth_unit=metres where .* or depth_unit=z-bu"):
        metres_by_default(near).read()
    hand = HandInView(np.tile([4.0, 4.0, 0.72], (4, 1)))
    assert np.array_equal(metres_by_default(near, hand).read(), near)
    buffer = ((1 - NEAR / near) / (1 - NEAR / FAR)).astype(np.float32)
    with pytest.raises(BadEpisode, match="depth_unit=z-buffer"):
        metres_by_default(buffer, hand).read()
