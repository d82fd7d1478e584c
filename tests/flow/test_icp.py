"""Flow by registering point clouds: what it sees, what it cannot see, and what it says."""

import builtins
from dataclasses import replace

import numpy as np
import pytest

from pipeline.evaluation.ground_truth import ExactEpisode, from_rigid_world
from pipeline.evaluation.synthetic_scene import RigidWorld, moving_card
from pipeline.flow_sources import FlowSource, Scene, icp
from pipeline.flow_sources._patch_registration import PatchConfig, carry, cloud_of, register, unchanged
from pipeline.timing import Stopwatch
from schemas.cameras import lift
from schemas.episode import BadEpisode
from schemas.plugins import MissingDependency, PluginChoice

pytest.importorskip("small_gicp")
RECORDED = icp.Config(camera=PluginChoice("recorded"), patches=10)


def world(camera_moves: bool, frames: int = 8) -> RigidWorld:
    """The card comes nearer and tilts, as registration can see, and does not slide along itself."""
    made = moving_card(frames=frames, size=(160, 120), camera_moves=camera_moves)
    start, pose = made.world_from_card[0], np.tile(np.eye(4), (frames, 1, 1))
    for frame, angle in enumerate(np.linspace(0, 0.25, frames)):
        pose[frame, :3, :3] = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
        pose[frame, 2, 3] = -0.012 * frame
    return replace(made, world_from_card=start @ pose)


def followed(exact: ExactEpisode, config: icp.Config = RECORDED):
    source = icp.build(config)
    assert isinstance(source, FlowSource)
    references = [reference for reference, _ in exact.windows]
    flow = source.follow(Scene(exact.episode), references, exact.keypoints, 7, 0.05, Stopwatch())
    return flow, [(lifted, truth) for (_, lifted), (_, truth) in zip(flow.windows, exact.windows, strict=True)]


@pytest.mark.parametrize("camera_moves", [False, True])
def test_a_card_that_comes_nearer_and_tilts_is_followed_and_the_wall_stands_still(camera_moves):
    scene = world(camera_moves)
    exact = from_rigid_world(scene, "nearer", (0,), not camera_moves, horizon=7, grid=20)
    _, ((lifted, truth),) = followed(exact)
    metres, true = (lift(f.uvz * [*scene.size, 1], scene.intrinsics) for f in (lifted.flow, truth))
    error = np.linalg.norm(metres - true, axis=-1)
    travelled = np.linalg.norm(true - true[:, :1], axis=-1).max(axis=1)
    moving, kept = travelled > 0.05, lifted.flow.valid & truth.visible
    assert moving.sum() > 20 and kept[moving][:, 1:].sum() > 0.6 * truth.visible[moving][:, 1:].sum()
    assert np.median(error[moving][kept[moving]]) < 0.015  # of 8 cm
    still = travelled < 0.001
    assert kept[still].sum() > 0.95 * truth.visible[still].sum()
    assert np.quantile(error[still][kept[still]], 0.99) < 0.003


def test_a_surface_that_slides_along_itself_is_taken_for_still_as_the_module_says():
    made = moving_card(frames=2, size=(160, 120), camera_moves=False)
    slide = np.tile(np.eye(4), (2, 1, 1))
    slide[:, 0, 3] = [0, 0.04]
    scene = replace(made, world_from_card=made.world_from_card[0] @ slide, half_side=0.3)
    depth = scene.depth()
    config = PatchConfig()
    nothing = np.zeros(depth.shape[1:], bool)
    clouds = [
        cloud_of(d, nothing, scene.intrinsics, scene.world_from_camera[0], config, i) for i, d in enumerate(depth[:2])
    ]
    stayed = unchanged(clouds[0].points, depth[1], scene.intrinsics, scene.world_from_camera[0], config)
    motions = register(clouds[0], stayed, clouds[1], config)
    middle = scene.world_from_card[0][:3, 3][None]
    moved, known = carry(middle, motions)
    assert known.all() and np.linalg.norm(moved - middle) < 0.01


def test_hidden_points_are_not_seen_and_steps_after_the_end_neither():
    exact = from_rigid_world(
        moving_card(frames=8, size=(160, 120), camera_moves=False), "hides", (0, 4), True, horizon=7
    )
    flow, windows = followed(exact)
    assert flow.name == "icp" and flow.depth_unit == "m"
    (first, truth), (late, _) = windows
    hidden = ~truth.visible & truth.valid
    assert hidden.sum() > 20 and (first.flow.visible & hidden).sum() < 0.15 * hidden.sum()
    assert late.flow.valid[:, :4].any() and not late.flow.visible[:, 4:].any()


def test_each_pair_of_frames_is_registered_once_for_all_windows(monkeypatch):
    calls = []
    monkeypatch.setattr(icp, "register", lambda *a: calls.append(1) or register(*a))
    followed(from_rigid_world(world(False), "shared", (0, 2, 4), True, horizon=7, grid=4))
    assert len(calls) == 7


def test_the_same_clip_gives_the_same_bytes():
    exact = from_rigid_world(world(False, frames=4), "same", (0,), True, horizon=3, grid=8)
    one, other = (followed(exact)[1][0][0].flow.uvz.tobytes() for _ in range(2))
    assert one == other


def test_a_cut_is_named_here_too():
    exact = from_rigid_world(world(False), "cut", (0,), True, horizon=7, grid=4)
    view = exact.episode.views[exact.episode.primary]
    spliced = view.frames.copy()
    spliced[4:] = spliced[4:, ::-1, ::-1]
    episode = replace(exact.episode, views={exact.episode.primary: replace(view, read_frames=lambda: spliced)})
    with pytest.raises(BadEpisode, match="another picture"):
        followed(replace(exact, episode=episode))


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest):
        if name == "small_gicp":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingDependency, match=r"pip install 'lamp-robotics\[icp\]'"):
        icp.check(RECORDED)


@pytest.mark.parametrize("option", [{"radius": 0.0}, {"patches": 0}, {"there": 0.0}, {"cut_level": 3.0}])
def test_nonsense_is_refused_with_the_field_named(option):
    with pytest.raises(ValueError, match=f"icp.{next(iter(option))}"):
        icp.Config(**option)
