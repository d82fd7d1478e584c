"""Noise of depth is measured from the clip, taken out of what stands still, and allowed for where things move."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures.triplet import make_triplet

from pipeline.evaluation.ground_truth import VIEW, ExactEpisode, from_rigid_world
from pipeline.evaluation.metrics import measure as metrics_of
from pipeline.evaluation.scoring import score_episode
from pipeline.evaluation.synthetic_scene import moving_card
from pipeline.flow_sources import Scene
from pipeline.flow_sources._scene import SceneObserver
from pipeline.flow_sources.tracked import Config, TrackedFlow
from pipeline.recipe import QualityConfig
from pipeline.timing import Stopwatch
from pipeline.vision import depth_noise
from pipeline.vision.patches import grey_clip
from schemas.cameras import Cameras
from schemas.episode import RecordedDepth
from schemas.perception import DepthMaps, DepthNoise
from schemas.plugins import PluginChoice
from schemas.sample_codec import decode_triplet, encode_triplet

FRAMES, SIZE = 34, (128, 96)
STILL, MOVES = (moving_card(FRAMES, SIZE, camera_moves=moves) for moves in (False, True))
DEPTH = {False: STILL.depth().astype(np.float32), True: MOVES.depth().astype(np.float32)}


def noisy(depth: np.ndarray, pixel: float = 0.0, flicker: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(3)
    factors = 1 + flicker * rng.standard_normal((len(depth), 1, 1))
    return (depth * factors * (1 + pixel * rng.standard_normal(depth.shape))).astype(np.float32)


def measured(moves: bool, **noise: float):
    world = MOVES if moves else STILL
    cameras = Cameras(world.intrinsics, world.world_from_camera, world.size, moves, "given", "given")
    depth = noisy(DEPTH[moves], **noise)
    return depth_noise.measure(grey_clip(world.frames()), depth, cameras, np.arange(FRAMES))


def episode_with(depth: np.ndarray, references: tuple[int, ...] = (0,)) -> ExactEpisode:
    exact = from_rigid_world(STILL, "noisy", references, True)
    view = replace(exact.episode.views[VIEW], depth=RecordedDepth(lambda: depth, "m", "noisy"))
    return replace(exact, episode=replace(exact.episode, views={VIEW: view}))


def observer(measures: bool = True) -> SceneObserver:
    return SceneObserver(PluginChoice("recorded"), PluginChoice("static"), None, measures)


def seen(depth: np.ndarray, **options) -> DepthMaps:
    found, _, _ = observer(**options).depth_and_cameras(Scene(episode_with(depth).episode), 0.05, Stopwatch())
    return found


@pytest.mark.parametrize("moves", [False, True], ids=["camera stands", "camera moves"])
def test_noise_and_flicker_are_told_apart_and_measured_to_a_quarter(moves):
    assert measured(moves) is None, "exact depth has none"
    found = measured(moves, pixel=0.01)
    assert found.pixel == pytest.approx(0.01, rel=0.25) and found.flicker < 0.002
    found = measured(moves, flicker=0.02)
    assert found.flicker == pytest.approx(0.02, rel=0.6) and found.pixel < 0.002


def test_exact_depth_is_left_as_it_is_to_the_last_bit():
    found = seen(DEPTH[False])
    assert found.noise is None and found.depth.tobytes() == DEPTH[False].tobytes()


def test_a_fixed_tolerance_measures_nothing():
    depth = noisy(DEPTH[False], pixel=0.02)
    found = seen(depth, measures=False)
    assert found.noise is None and found.depth.tobytes() == depth.tobytes()


def test_what_stands_still_gets_one_depth_and_what_moves_keeps_its_own():
    found = seen(noisy(DEPTH[False], pixel=0.02, flicker=0.02))
    never = (DEPTH[False] == DEPTH[False][:1]).all(axis=0)
    assert never.mean() > 0.2
    assert (np.ptp(found.depth[:, never], axis=0) == 0).mean() > 0.9
    off = np.abs(found.depth / DEPTH[False] - 1)
    assert np.quantile(off[:, never], 0.95) < 0.008, "2% of a frame, averaged over 34"
    card = DEPTH[False] < 1.0
    assert card.mean() > 0.05 and np.quantile(off[card], 0.9) < 0.03
    assert 0 < found.noise.left < 0.012 < found.noise.pixel


def test_two_per_cent_of_noise_move_nothing_that_stands_still():
    exact = episode_with(noisy(DEPTH[False], pixel=0.02, flicker=0.01))
    m = metrics_of(score_episode(exact, TrackedFlow(Config()), QualityConfig(), Stopwatch()))
    fixed = metrics_of(score_episode(exact, TrackedFlow(Config(depth_noise=0.005)), QualityConfig(), Stopwatch()))
    assert m["static"]["kept"] > 0.97 and m["static"]["within_cm"]["2.0"] > 0.995
    assert m["false_movers"]["max"] <= 5 < 50 < fixed["false_movers"]["max"]
    assert m["moving"]["kept"] > 0.6 > fixed["moving"]["kept"] + 0.1


def test_a_long_episode_is_steadied_as_a_whole_and_to_the_same_bytes():
    """Of a chunk alone less would be known about what stands still."""
    exact = episode_with(noisy(DEPTH[False], pixel=0.01))
    view = exact.episode.views[VIEW]
    frames = view.frames
    long = replace(exact.episode, views={VIEW: replace(view, read_some=lambda numbers: frames[numbers])})
    scene = observer().observe(long, True, Stopwatch())
    assert scene.found is not None and isinstance(scene.found.depth.depth, np.memmap)
    at_once = seen(noisy(DEPTH[False], pixel=0.01))
    assert np.asarray(scene.found.depth.depth).tobytes() == at_once.depth.tobytes()
    assert scene.found.depth.noise == at_once.noise
    quiet = observer().observe(episode_with(DEPTH[False]).episode, True, Stopwatch())
    assert quiet.found is None and quiet.quiet


def test_a_sample_says_what_was_measured_and_one_without_noise_says_nothing():
    quiet = make_triplet(0)
    loud = replace(quiet, depth_noise=DepthNoise(0.01, 0.002, 0.004))
    said, unsaid = (encode_triplet(t) for t in (loud, quiet))
    assert decode_triplet(quiet.key, said).depth_noise == loud.depth_noise
    assert decode_triplet(quiet.key, unsaid).depth_noise is None and b'"noise"' not in unsaid["json"]
