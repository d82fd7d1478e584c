"""Adaptive keypoints: where they are set, that they leave the grid's flow alone, and that every format keeps them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.triplet import make_triplet, same

from lamp_model.shards import decoded
from pipeline.evaluation.ground_truth import from_rigid_world
from pipeline.evaluation.synthetic_scene import moving_card
from pipeline.recipe import Recipe, WindowConfig
from pipeline.vision.lift import depth_edges
from pipeline.vision.patches import grey_clip
from pipeline.windows.adaptive_points import WindowView, adaptive_points, motion_energy
from pipeline.windows.maker import TripletMaker
from schemas.cameras import Cameras
from schemas.plugins import PluginChoice
from schemas.sample_codec import decode_triplet, encode_triplet
from schemas.scene_flow import SceneFlow
from schemas.shard_formats import open_shard, write_shard
from schemas.triplet import AdaptiveFlow, Triplet

SIZE, STEPS = (128, 96), 12
WORLD = {moves: moving_card(frames=STEPS + 1, size=SIZE, camera_moves=moves) for moves in (False, True)}


def view_of(moves: bool) -> WindowView:
    world = WORLD[moves]
    depth = world.depth()
    cameras = Cameras(world.intrinsics, world.world_from_camera, SIZE, moves, "given", "given")
    return WindowView(grey_clip(world.frames()), depth, depth_edges(depth[:1], 0.05)[0], cameras)


def on_card(points: np.ndarray) -> float:
    """Share of points that truly move."""
    flow = WORLD[False].flow(0, points, STEPS)
    return float((np.ptp(flow.uvz, axis=1).max(axis=1) > 1e-6).mean())


@pytest.mark.parametrize("moves", [False, True])
def test_points_are_denser_where_things_move_and_not_where_the_camera_does(moves):
    view = view_of(moves)
    points = adaptive_points(view, 100)
    assert points.shape == (100, 2) and len({tuple(p) for p in points}) == 100
    assert ((points % 1) == 0.5).all() and (points >= 0).all() and (points < SIZE).all()
    card = np.isclose(view.depth[0], view.depth[0].min(), rtol=0.4)
    area, share = float(card.mean()), float(card[tuple(points.astype(int).T[::-1])].mean())
    assert share > 2.5 * area and share < 0.97
    energy = motion_energy(view)
    assert energy[card].mean() > 4 * energy[~card].mean()
    assert np.array_equal(points, adaptive_points(view, 100))


def test_a_picture_in_which_nothing_moves_is_covered_evenly():
    still = view_of(False)
    still = replace(still, grey=np.repeat(still.grey[:1], 3, axis=0), depth=np.full((3, SIZE[1], SIZE[0]), 1.0))
    points = adaptive_points(replace(still, edges=np.zeros((SIZE[1], SIZE[0]), bool)), 48)
    assert np.histogram2d(*points.T, bins=(4, 3), range=((0, SIZE[0]), (0, SIZE[1])))[0].min() >= 3
    corner = replace(still, grey=still.grey[:, :9, :7], depth=still.depth[:, :9, :7], edges=np.ones((9, 7), bool))
    assert len({tuple(point) for point in adaptive_points(corner, 70)}) == 63  # every pixel, if that many are wanted


def made(keypoints: str, megapixels: float = 32.0) -> list[Triplet]:
    from pipeline.episodes.chunks import ChunkConfig

    episode = from_rigid_world(moving_card(frames=26, size=SIZE, camera_moves=False), "still", (0,), True).episode
    windows = WindowConfig(stride=10, horizon=STEPS, grid=8, keypoints=keypoints)
    recipe = Recipe(PluginChoice("libero"), windows=windows, language="optional")
    maker = TripletMaker(recipe, ChunkConfig(megapixels))
    return [window for window in maker.windows(episode) if isinstance(window, Triplet)]


def test_the_grid_is_as_without_them_and_most_of_the_added_points_are_on_what_moves():
    regular, adaptive = made("regular"), made("adaptive")
    assert len(regular) == len(adaptive) >= 2
    for one, other in zip(regular, adaptive, strict=True):
        assert one.adaptive is None and other.adaptive is not None
        assert same(replace(other, adaptive=None), one)
        points = other.adaptive.flow.uvz[:, 0, :2] * SIZE
        assert other.adaptive.flow.uvz.shape == one.flow.uvz.shape and (points % 1 == 0.5).all()
        assert other.adaptive.flow.valid[:, 0].mean() > 0.9
    first = adaptive[0]
    assert first.adaptive is not None
    assert on_card(first.adaptive.flow.uvz[:, 0, :2] * SIZE) > 2 * on_card(first.flow.uvz[:, 0, :2] * SIZE)
    exact = moving_card(26, SIZE, False).flow(0, first.adaptive.flow.uvz[:, 0, :2] * SIZE, STEPS)
    valid = first.adaptive.flow.valid
    off = np.linalg.norm((first.adaptive.flow.uvz - exact.uvz) * [*SIZE, 0], axis=-1)[valid]
    assert np.mean(off < 3) > 0.9
    in_chunks = made("adaptive", megapixels=0.25)
    assert all(same(a, b) for a, b in zip(adaptive, in_chunks, strict=True))


def test_the_recipe_of_a_build_without_them_is_as_it_was():
    recipe = Recipe(PluginChoice("libero"))
    assert "keypoints" not in recipe.as_dict()["windows"]
    other = replace(recipe, windows=WindowConfig(keypoints="adaptive"))
    assert other.as_dict()["windows"]["keypoints"] == "adaptive" and other.digest != recipe.digest


def with_adaptive(seed: int) -> Triplet:
    t, more = make_triplet(seed, grid=6), make_triplet(seed + 50, grid=7)
    return replace(t, adaptive=AdaptiveFlow(more.flow, more.point_flags))


@pytest.mark.parametrize("format_name", ["webdataset", "zarr"])
def test_every_format_keeps_them_and_reads_samples_without_flow(tmp_path: Path, format_name):
    triplets = [with_adaptive(seed) for seed in range(2)]
    samples = [(t.key, t.episode, encode_triplet(t)) for t in triplets]
    entry = write_shard(format_name, tmp_path, "a", samples)
    shard = open_shard(tmp_path / entry.name)
    for row, t in enumerate(triplets):
        back = shard.read(row)
        assert back.adaptive is not None and t.adaptive is not None
        assert same(back, decode_triplet(t.key, encode_triplet(t)))
        error = np.abs(back.adaptive.flow.uvz - t.adaptive.flow.uvz)[t.adaptive.flow.valid] * [*t.camera.size, 1]
        assert error[:, :2].max() < 0.021 and np.array_equal(back.adaptive.point_flags, t.adaptive.point_flags)
        assert decoded(back)["adaptive_positions"].shape == (49, 33, 3)
        assert shard.read(row, flow=False).adaptive is None
    shard.close()


def test_a_sample_without_them_has_the_bytes_it_had_and_a_wrong_one_is_refused():
    t = with_adaptive(3)
    plain, full = encode_triplet(replace(t, adaptive=None)), encode_triplet(t)
    assert {n: full[n] for n in plain if n != "json"} == {n: plain[n] for n in plain if n != "json"}
    assert sorted(full.keys() - plain.keys()) == ["adaptive_flow.blosc", "adaptive_mask.blosc", "adaptive_start.blosc"]
    assert b"adaptive" not in plain["json"]
    assert t.adaptive is not None
    short = SceneFlow(*(a[:, :-1] for a in (t.adaptive.flow.uvz, t.adaptive.flow.visible, t.adaptive.flow.valid)))
    with pytest.raises(ValueError, match=r"adaptive\.flow\.uvz must have shape"):
        encode_triplet(replace(t, adaptive=replace(t.adaptive, flow=short)))
