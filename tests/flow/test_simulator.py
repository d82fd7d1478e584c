"""Replay of recorded states: laws on a small model of its own, which needs no files."""

import numpy as np
import pytest

from pipeline.evaluation.ground_truth import from_rigid_world
from pipeline.evaluation.simulator_truth import replay_episode
from pipeline.evaluation.synthetic_scene import moving_card
from pipeline.flow_sources import FlowSource, Scene, simulator
from pipeline.recipe import QualityConfig, Recipe
from pipeline.simulator.model import AssetFolders, load_model, simulator_library
from pipeline.timing import Stopwatch
from pipeline.vision.lift import LiftedTracks
from pipeline.windows.quality import evaluate
from schemas.cameras import lift, transform
from schemas.episode import BadEpisode, CameraView, Episode, RecordedSimulation
from schemas.plugins import PluginChoice
from schemas.scene_flow import keypoint_grid

try:
    simulator_library()
except BadEpisode as missing:
    pytest.skip(str(missing), allow_module_level=True)

MODEL = """
<mujoco>
  <worldbody>
    <light pos="0 0 3"/>
    <camera name="eye" pos="0 0 2" fovy="60"/>
    <camera name="rider" pos="0 0 2" mode="track"/>
    <geom type="plane" size="3 3 0.1" group="1"/>
    <geom type="box" size="0.05 3 0.05" pos="0.45 0 1" group="1"/>
    <geom type="box" size="0.3 0.3 0.3" pos="0 0 1.2" group="0"/>
    <body name="card">
      <freejoint/>
      <geom type="box" size="0.2 0.3 0.02" group="1"/>
    </body>
  </worldbody>
</mujoco>
"""
SIZE, FRAMES, SPEED = (96, 96), 12, 0.08


def states() -> np.ndarray:
    """The card slides along x at 8 cm a frame, under the bar, and turns about z."""
    found = np.zeros((FRAMES, 1 + 7 + 6))
    angle = 0.02 * np.arange(FRAMES)
    found[:, 1] = SPEED * np.arange(FRAMES)
    found[:, 3] = 0.5
    found[:, 4], found[:, 7] = np.cos(angle / 2), np.sin(angle / 2)
    found[-1] = np.nan
    return found


def episode(camera: str = "eye", given: np.ndarray | None = None, model: str = MODEL) -> Episode:
    numbers = states() if given is None else given
    view = CameraView(
        name="camera",
        read_frames=lambda: np.zeros((FRAMES, *SIZE, 3), np.uint8),
        length=FRAMES,
        size=SIZE,
        simulation=RecordedSimulation(lambda: (model, numbers), camera),
    )
    base = from_rigid_world(moving_card(frames=FRAMES, size=(64, 48)), "replayed", (0,), True, horizon=4).episode
    return Episode(**{**{f: getattr(base, f) for f in base.__dataclass_fields__}, "views": {base.primary: view}})


@pytest.fixture(scope="module")
def source() -> FlowSource:
    return simulator.build(simulator.Config())


def followed(source: FlowSource, given: Episode, references=(0,), horizon: int = 8):
    keypoints = keypoint_grid(*SIZE)
    flow = source.follow(Scene(given), references, keypoints, horizon, 0.05, Stopwatch())
    return flow, [lifted.flow for _, lifted in flow.windows]


def test_points_of_the_card_move_exactly_as_it_does_and_the_rest_stands(source):
    flow, (window,) = followed(source, episode())
    points = lift(window.uvz * [*SIZE, 1], flow.cameras.intrinsics)
    world = transform(flow.cameras.world_from_camera[0], points)
    on_card = np.abs(world[:, 0, 2] - 0.52) < 1e-3
    assert 20 < on_card.sum() < 200
    expected = world[on_card, :1].copy().repeat(9, axis=1)
    for step in range(9):
        c, s = np.cos(0.02 * step), np.sin(0.02 * step)
        x, y = world[on_card, 0, 0], world[on_card, 0, 1]
        expected[:, step, 0], expected[:, step, 1] = c * x - s * y + SPEED * step, s * x + c * y
    np.testing.assert_allclose(world[on_card], expected, atol=1e-6)
    rest = window.uvz[~on_card]
    np.testing.assert_allclose(rest, np.broadcast_to(rest[:, :1], rest.shape), atol=1e-7)


def test_hidden_points_are_known_and_not_visible_and_collision_geometry_is_not_seen(source):
    flow, (window,) = followed(source, episode())
    world = transform(flow.cameras.world_from_camera[0], lift(window.uvz * [*SIZE, 1], flow.cameras.intrinsics))
    assert window.valid.all()
    under_bar = (np.abs(world[..., 0] * 2 / (2 - world[..., 2]) - 0.9) < 0.05) & (world[..., 2] < 0.9)
    assert under_bar.sum() > 10 and not window.visible[under_bar].any()
    assert window.visible[:, 0].all()
    assert (np.abs(world[:, 0, 2] - 1.5) > 0.05).all()


def test_frames_whose_state_was_not_recorded_are_not_valid(source):
    _, (window,) = followed(source, episode(), references=(6,))
    np.testing.assert_array_equal(window.valid.all(axis=0), [True] * 5 + [False] * 4)


def test_each_frame_is_rendered_once(source, monkeypatch):
    from pipeline.simulator.rendering import SceneCamera

    calls, render = [], SceneCamera._render
    monkeypatch.setattr(SceneCamera, "_render", lambda *a, **k: calls.append(1) or render(*a, **k))
    followed(source, episode(), references=(0, 2, 4))
    assert len(calls) == FRAMES


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        (episode(given=np.zeros((FRAMES, 9))), "bad_states", "14 numbers"),
        (episode(given=np.zeros((FRAMES, 15))), "bad_states", "found 15"),
        (episode(given=np.full((FRAMES, 14), np.nan)), "bad_states", "first frame"),
        (episode(given=1e9 * states()), "bad_states", "frame 1 has a rotation (quaternion) of length 1e+09"),
        (episode(camera="nose"), "no_camera", "it has: eye, rider"),
        (episode(model="<mujoco><nonsense/></mujoco>"), "bad_model", "nonsense"),
        (episode(model=MODEL.replace("<worldbody>", '<asset><mesh file="/a/assets/b.stl"/></asset><worldbody>')),
         "missing_assets", "/a/assets/b.stl"),
        (from_rigid_world(moving_card(frames=6), "x", (0,), True, 4).episode, "no_simulation", "--flow tracked"),
    ],
)  # fmt: skip
def test_what_cannot_be_replayed_is_refused_in_a_sentence(source, given, code, says):
    with pytest.raises(BadEpisode) as error:
        followed(source, given)
    assert error.value.code == code and says in str(error.value)


def test_a_camera_gives_the_same_whatever_camera_was_seen_before(source):
    model = MODEL.replace('name="rider" pos="0 0 2"', 'name="rider" pos="0.1 0 1.5"')
    for camera in ("eye", "rider", "eye"):
        _, (found,) = followed(source, episode(camera, model=model))
        _, (alone,) = followed(simulator.build(simulator.Config()), episode(camera, model=model))
        np.testing.assert_array_equal(found.uvz, alone.uvz)


def test_a_model_without_the_camera_is_refused_by_a_source_that_has_seen_nothing():
    with pytest.raises(BadEpisode, match="no camera nose"):
        followed(simulator.build(simulator.Config()), episode("nose"))


def test_points_that_come_beside_or_behind_the_reference_camera_are_not_valid(source):
    up = states()
    up[:, 3] += 0.12 * np.arange(FRAMES)  # through the camera's plane
    _, (window,) = followed(source, episode(given=up), horizon=10)
    z = 1.48 - 0.12 * np.arange(11)
    on_card = np.abs(window.uvz[:, 0, 2] - z[0]) < 1e-3
    assert on_card.sum() > 20
    assert window.valid[on_card][:, 1].all() and not window.valid[on_card][:, z < 0.1].any()
    inside = np.abs(window.uvz[..., :2][window.valid] - 0.5)
    assert inside.max() <= 1.5


def test_exact_positions_are_neither_smoothed_nor_taken_for_jumps(source):
    slow, fast = states(), states()
    slow[:, 1] *= 0.001
    slow[:, 4:8] = [1, 0, 0, 0]
    fast[:, 1] *= 4  # 3 m/s
    for given in (slow, fast):
        _, (window,) = followed(source, episode(given=given))
        nothing = np.zeros(window.valid.shape, bool)
        judged = evaluate(LiftedTracks(window, nothing, nothing, exact=True), 8, 10.0, np.eye(3), SIZE, QualityConfig())
        np.testing.assert_array_equal(judged.flow.uvz, window.uvz)
        np.testing.assert_array_equal(judged.flow.valid, window.valid & window.valid[:, :1])


def test_recorded_paths_are_found_wherever_they_were_recorded(tmp_path):
    mesh = tmp_path / "rs" / "models" / "assets" / "robots" / "a.stl"
    other = tmp_path / "libero" / "plate" / "b.msh"
    for path in (mesh, other):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    folders = AssetFolders(tmp_path / "rs", tmp_path / "libero")
    assert folders.find("/home/x/robosuite/models/assets/robots/a.stl") == mesh
    assert folders.find("/home/libero/chiliocosm/assets/plate/b.msh") == other
    assert folders.find("/home/libero/chiliocosm/assets/plate/c.msh") is None


def test_an_episode_is_seen_again_at_any_size():
    numbers = np.repeat(states()[:11], 4, axis=0)
    long = episode(given=numbers)
    exact = replay_episode(long, AssetFolders(), size=64, stride=8)
    view = exact.episode.views[exact.episode.primary]
    assert view.size == (64, 64) and view.frames.shape == (44, 64, 64, 3) and view.frames.std() > 5
    assert [r for r, _ in exact.windows] == [0, 8]
    assert view.depth is not None and view.depth.read().shape == (44, 64, 64)


def test_a_folder_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"simulator\.robosuite must be a folder"):
        simulator.Config(robosuite="/nowhere")


def test_where_the_meshes_lie_does_not_change_the_recipe(tmp_path):
    named = PluginChoice("simulator", {"robosuite": str(tmp_path)})
    here = Recipe(PluginChoice("libero"), flow=named)
    assert here.digest == Recipe(PluginChoice("libero"), flow=PluginChoice("simulator")).digest
    assert here.as_dict()["flow"] == {"name": "simulator", "options": {}} and "tracker" not in here.as_dict()


def test_load_model_compiles_what_needs_no_files():
    assert load_model("episode", MODEL, AssetFolders()).nbody == 2
