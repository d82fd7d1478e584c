"""robosuite's demonstrations: conventions of the files, pictures rendered from states, exact flow of what has none."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.actions import standard_of
from pipeline.flow_sources import Scene, simulator
from pipeline.readers import robosuite
from pipeline.recipe import Recipe, WindowConfig
from pipeline.simulator.model import simulator_library
from pipeline.simulator.rendering import SceneCamera
from pipeline.timing import Stopwatch
from pipeline.windows.maker import TripletMaker
from schemas.episode import BadEpisode
from schemas.plugins import PluginChoice
from schemas.scene_flow import keypoint_grid

SAMPLE = Path(__file__).parents[3] / "shared/samples/robosuite_hdf5"
FRAMES = 6
MODEL = """
<mujoco>
  <worldbody>
    <light pos="0 0 3"/>
    <camera name="agentview" pos="0 0 2" quat="1 0 0 0" fovy="60"/>
    <geom type="plane" size="3 3 0.1" group="1" rgba="0 0 1 1"/>
    <body name="cube" pos="0 0 0.5"><freejoint name="cube_joint0"/>
      <geom type="box" size="0.3 0.3 0.01" group="1" rgba="1 0 0 1"/></body>
    <body name="arm" pos="2.5 0 0">
      <joint name="robot0_joint1" type="hinge"/><geom type="sphere" size="0.1" group="1"/>
      <body name="hand">
        <camera name="robot0_eye_in_hand" pos="0 0 1"/>
        <joint name="gripper0_finger_joint1" type="slide"/><geom type="sphere" size="0.05" group="1"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""
INFO = {"env_name": "Push", "controller_configs": {"type": "OSC_POSE"}, "control_freq": 10}


def states() -> np.ndarray:
    """Time, cube (7), arm, finger, velocities (6 + 2): the cube slides to the right."""
    found = np.zeros((FRAMES, 1 + 9 + 8))
    found[:, 1] = -0.4 + 0.15 * np.arange(FRAMES)
    found[:, 3], found[:, 4] = 0.5, 1
    found[:, 8], found[:, 9] = 0.1 * np.arange(FRAMES), 0.02
    return found


def write(path: Path, model: str = MODEL, images: bool = False, **changed) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_info"] = json.dumps(INFO)
        for name in ("demo_10", "demo_2"):
            demo = data.create_group(name)
            demo.attrs["model_file"] = model
            arrays = {"states": states(), "actions": np.arange(FRAMES * 7).reshape(FRAMES, 7) / 50.0, **changed}
            for key, values in arrays.items():
                demo[key] = values
            if images:
                demo["obs/agentview_image"] = np.arange(FRAMES * 4 * 5 * 3, dtype=np.uint8).reshape(FRAMES, 4, 5, 3)
    return path.parent


def reader(**options):
    return robosuite.build(robosuite.Config(size=64, **options))


def first(folder: Path, **options):
    made = reader(**options)
    return made.read(next(iter(made.list_episodes(folder))))


def test_what_the_file_says_is_what_the_episode_holds(tmp_path):
    folder = write(tmp_path / "a.hdf5")
    assert [ref.episode for ref in reader().list_episodes(folder)] == ["demo_2", "demo_10"]
    episode = first(folder, instruction="push the cube")
    assert (episode.fps, episode.instructions, episode.success) == (10, ("push the cube",), None)
    assert episode.state_names == ("robot0_joint1", "gripper0_finger_joint1")
    np.testing.assert_allclose(episode.state, states()[:, [8, 9]])
    assert episode.action_mask.all() and episode.action_convention.name == "robosuite_osc_pose"
    np.testing.assert_allclose(episode.actions[1], np.arange(7, 14) / 50)
    assert (episode.views["agentview"].fixed, episode.views["robot0_eye_in_hand"].fixed) == (True, False)
    assert standard_of("robosuite") == "raw"


def test_pictures_that_are_there_are_taken_as_they_are(tmp_path):
    view = first(write(tmp_path / "a.hdf5", images=True)).views["agentview"]
    assert view.size == (5, 4)
    assert np.array_equal(view.some_frames(np.array([1, 3])), view.frames[[1, 3]])
    assert view.frames[0, 0, 0].tolist() == [0, 1, 2]


def test_recorded_depth_is_taken_upright_in_metres_and_a_z_buffer_where_that_is_said(tmp_path):
    metres = (1.2 + np.arange(FRAMES * 4 * 5, dtype=np.float32) / 100).reshape(FRAMES, 4, 5, 1)
    model = MODEL.replace("<mujoco>", '<mujoco><statistic extent="1"/>')
    folder = write(tmp_path / "a" / "a.hdf5", model, images=True, **{"obs/agentview_depth": metres})
    assert np.array_equal(first(folder).views["agentview"].depth.read(), metres[..., 0])
    with pytest.raises(BadEpisode, match=r"a z-buffer has none above 1.*depth_unit=metres"):
        first(folder, depth_unit="z-buffer").views["agentview"].depth.read()
    buffer = ((1 - 0.01 / metres) / (1 - 0.01 / 50)).astype(np.float32)
    folder = write(tmp_path / "b" / "a.hdf5", model, images=True, **{"obs/agentview_depth": buffer})
    with pytest.raises(BadEpisode, match="holds no value above 1"):
        first(folder).views["agentview"].depth.read()
    depth = first(folder, depth_unit="z-buffer").views["agentview"].depth
    np.testing.assert_allclose(depth.some(np.array([2, 4])), metres[[2, 4], ..., 0], rtol=1e-3)


def test_a_robot_without_the_wrist_camera_is_read_without_it(tmp_path):
    episode = first(write(tmp_path / "a.hdf5"), wrist="another_hand")
    assert list(episode.views) == ["agentview"] and episode.wrist is None
    assert "no camera another_hand" in episode.notes["camera another_hand"]


@pytest.mark.parametrize(
    ("changed", "code", "says"),
    [
        ({"actions": np.zeros((FRAMES - 1, 7))}, "wrong_shape", "6 states and 5 actions"),
        ({"states": np.full((FRAMES, 18), np.nan)}, "not_finite", "not finite"),
        ({"states": np.zeros((1, 18)), "actions": np.zeros((1, 7))}, "too_short", "1 frame"),
        ({"model": "<mujoco/>"}, "missing_camera", "no camera agentview"),
        ({"model": "<mujoco"}, "bad_model", "no XML"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, changed, code, says):
    with pytest.raises(BadEpisode, match=says) as refused:
        first(write(tmp_path / "a.hdf5", **changed))
    assert refused.value.code == code


def test_frame_t_shows_state_t_and_flow_is_the_cubes_motion(tmp_path):
    try:
        simulator_library()
    except BadEpisode as missing:
        pytest.skip(str(missing))
    episode = first(write(tmp_path / "a.hdf5"))
    view = episode.views["agentview"]
    colours = view.frames.astype(int)
    red = colours[..., 0] > colours[..., 2]
    middle = np.array([np.nonzero(frame)[1].mean() + 0.5 for frame in red])
    # A flat cube whose top lies 1.49 m below the camera moves by f / 1.49 px a metre.
    focal = view.intrinsics[0, 0]
    np.testing.assert_allclose(middle, 32 + states()[:, 1] * focal / 1.49, atol=0.8)
    assert np.array_equal(view.some_frames(np.array([4])), view.frames[[4]])
    keypoints = keypoint_grid(*view.size)
    flow = simulator.build(simulator.Config()).follow(Scene(episode), [0], keypoints, 5, 0.05, Stopwatch())
    ((_, lifted),) = flow.windows
    moved = lifted.flow.uvz[:, 5, 0] - lifted.flow.uvz[:, 0, 0]
    on_cube = red[0][tuple(np.floor(keypoints[:, ::-1]).astype(int).T)]
    np.testing.assert_allclose(moved[on_cube], 0.75 * focal / 1.49 / 64, atol=1e-4)
    assert on_cube.any() and lifted.flow.valid[:, 5].all()


def test_only_the_pictures_that_stand_in_samples_are_rendered(tmp_path, monkeypatch):
    try:
        simulator_library()
    except BadEpisode as missing:
        pytest.skip(str(missing))
    recipe = Recipe(
        dataset=PluginChoice("robosuite", {"size": 64}),
        flow=PluginChoice("simulator"),
        windows=WindowConfig(stride=2, horizon=3, grid=4),
        language="optional",
    )
    drawn = []
    picture = SceneCamera.picture
    monkeypatch.setattr(SceneCamera, "picture", lambda eye, data: drawn.append(1) or picture(eye, data))
    made = list(TripletMaker(recipe).windows(first(write(tmp_path / "a.hdf5"))))
    assert len(made) == 3, "kept or rejected"
    assert len(drawn) == 2 * 3, "two cameras at frames 0, 2 and 4"


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the samples are not here")
def test_real_demonstrations_of_a_person():
    episode = first(SAMPLE)
    assert (episode.length, episode.fps, len(episode.state_names)) == (482, 20, 9)
    np.testing.assert_allclose(episode.state[0, 7:], [0.020833, -0.020833], atol=1e-6)


def test_the_joints_of_a_robot_that_stands_are_told(tmp_path):
    """Fingers count from closed, whichever way the simulator counts."""
    placed = '<body name="robot0_base" pos="1 2 3"/><body name="arm"'
    given = states()
    given[:, 9] = -0.02
    episode = first(write(tmp_path / "a" / "x.hdf5", MODEL.replace('<body name="arm"', placed), states=given))
    assert episode.joints.names == ("joint1", "finger_joint1")
    assert np.allclose(episode.joints.positions, np.stack([given[:, 8], np.full(FRAMES, 0.02)], axis=1))
    assert np.array_equal(episode.joints.world_from_base[:3, 3], [1, 2, 3])
    assert first(write(tmp_path / "b" / "x.hdf5")).joints is None
