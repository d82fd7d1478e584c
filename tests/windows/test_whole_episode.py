"""Depth and cameras that are found from all frames of a long episode: what is made in chunks is what is made at once,
and no frame is read twice.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from windows.test_chunks import WINDOWS, as_bytes, episode

from pipeline.cameras._bundle_adjustment import _solve_banded
from pipeline.depth._monocular import EstimatedDepth, EstimatorConfig
from pipeline.episodes.chunks import ChunkConfig, EpisodeChunk
from pipeline.episodes.spill import empty, in_turn, release
from pipeline.evaluation.synthetic_scene import RigidWorld, moving_card
from pipeline.flow_sources import Scene
from pipeline.flow_sources._scene import SceneObserver
from pipeline.recipe import QualityConfig, Recipe
from pipeline.timing import Stopwatch
from pipeline.windows.maker import TripletMaker
from schemas.cameras import invert_pose
from schemas.episode import CameraView, RecordedDepth
from schemas.plugins import PluginChoice
from schemas.triplet import Triplet

LENGTH = 26


def swinging() -> RigidWorld:
    """A camera that slides, and turns there and back,
    so that several key frames are needed and the focal length shows.
    """
    world = moving_card(frames=LENGTH, size=(96, 72))
    time = np.linspace(0, 1, LENGTH)
    angle = 0.25 * np.sin(7 * time)
    poses = np.tile(np.eye(4), (LENGTH, 1, 1))
    poses[:, 0, 0] = poses[:, 2, 2] = np.cos(angle)
    poses[:, 0, 2], poses[:, 2, 0] = np.sin(angle), -np.sin(angle)
    poses[:, 0, 3] = 0.7 * time
    return replace(world, world_from_camera=poses)


WORLD = swinging()
FRAMES, DEPTH = WORLD.frames(), WORLD.depth().astype(np.float32)


def true_places():
    """Where the camera is, as the first frame's camera sees it."""
    return (invert_pose(WORLD.world_from_camera[:1]) @ WORLD.world_from_camera)[:, :3, 3]


class Seen:
    """The world as an episode, and how often each of its frames was read."""

    def __init__(self, known: bool = True, fixed: bool = False):
        self.pictures, self.depths = Counter(), Counter()
        whole = np.arange(LENGTH)
        view = CameraView(
            name="front",
            read_frames=lambda: self._some(FRAMES, self.pictures, whole),
            read_some=lambda numbers: self._some(FRAMES, self.pictures, numbers),
            length=LENGTH,
            size=WORLD.size,
            intrinsics=WORLD.intrinsics if known else None,
            intrinsics_source="given",
            fixed=fixed,
            depth=RecordedDepth(
                lambda: self._some(DEPTH, self.depths, whole),
                "m",
                "x",
                lambda numbers: self._some(DEPTH, self.depths, numbers),
            ),
        )
        self.episode = replace(episode(LENGTH), views={"front": view}, wrist=None)

    def _some(self, of, counter, numbers):
        counter.update(np.asarray(numbers).tolist())
        return of[numbers]


class Oracle:
    """A model that knows each picture's depth by its pixels,
    up to a scale that differs a little from frame to frame.
    """

    name, metric = "oracle", True

    def __init__(self):
        scale = 1 + 0.002 * np.sin(np.arange(LENGTH))
        self.known = {picture.tobytes(): s / z for picture, z, s in zip(FRAMES, DEPTH, scale, strict=True)}
        self.looked = 0

    def inverse_depth(self, frames):
        self.looked += len(frames)
        return np.stack([self.known[picture.tobytes()] for picture in frames]).astype(np.float32)


def made(seen: Seen, megapixels: float, model=None):
    recipe = Recipe(
        dataset=PluginChoice("bridge"),
        actions=PluginChoice("raw"),
        windows=replace(WINDOWS, horizon=5),
        camera=PluginChoice("estimated"),
        quality=QualityConfig(min_steps=2, max_edges=1, max_holes=1, min_valid=0, min_moving_points=0),
    )
    maker = TripletMaker(recipe, ChunkConfig(megapixels))
    if model is not None:
        maker.source.observer.depth = EstimatedDepth(EstimatorConfig(align="none"), model)
    return list(maker.windows(seen.episode))


def read_once(seen: Counter) -> bool:
    return seen == Counter(range(LENGTH))


def test_a_camera_that_is_estimated_is_one_for_all_pieces():
    one, other = Seen(known=False), Seen(known=False)
    whole, pieces = made(one, 1), made(other, 0.001)
    kept = [item for item in whole if isinstance(item, Triplet)]
    assert len(kept) > 5 and all("key frames" in item.camera.pose_source for item in kept)
    assert all("estimated from tracks and depth" in item.camera.intrinsics_source for item in kept)
    assert as_bytes(pieces) == as_bytes(whole)
    assert read_once(other.pictures) and read_once(other.depths)


def test_estimated_depth_and_an_estimated_camera_are_one_for_all_pieces():
    one, other, first, second = Seen(), Seen(), Oracle(), Oracle()
    whole, pieces = made(one, 1, first), made(other, 0.001, second)
    assert sum(isinstance(item, Triplet) for item in whole) > 5
    assert as_bytes(pieces) == as_bytes(whole)
    assert read_once(other.pictures) and first.looked == second.looked == LENGTH


def observer(model=None, camera="estimated") -> SceneObserver:
    found = SceneObserver(PluginChoice("recorded"), PluginChoice(camera), 0.3)
    if model is not None:
        found.depth = EstimatedDepth(EstimatorConfig(align="none"), model)
    return found


def look(by: SceneObserver, scene: Scene):
    depth, _, cameras = by.depth_and_cameras(scene, 0.05, Stopwatch())
    return depth, cameras


def test_what_was_found_from_all_frames_lies_in_files_and_slices_have_their_share_of_it():
    by, seen = observer(), Seen()
    scene = by.observe(seen.episode, True, Stopwatch())
    assert isinstance(scene.episode.views["front"].frames, np.memmap)
    found = {}
    for first in (0, 4, 17):
        part, numbers = scene.slice(EpisodeChunk(first, first + 9, (0,))), np.arange(first, first + 9)
        depth, cameras = look(by, part)
        np.testing.assert_array_equal(depth.depth, DEPTH[numbers])
        assert not isinstance(depth.depth, np.memmap), "a slice's depth is in memory"
        np.testing.assert_array_equal(part.episode.views["front"].frames, FRAMES[numbers])
        found[first] = cameras
    np.testing.assert_array_equal(found[0].world_from_camera[4:], found[4].world_from_camera[:5])
    np.testing.assert_allclose(found[17].world_from_camera[:, :3, 3], true_places()[17:26], atol=0.01)
    assert found[0].pose_source == found[17].pose_source


def test_a_slice_of_a_slice_counts_its_frames_from_the_first_of_all():
    by, seen = observer(), Seen()
    scene = by.observe(seen.episode, True, Stopwatch())
    inner = scene.slice(EpisodeChunk(5, 20, (0,))).slice(EpisodeChunk(3, 9, (0,)))
    depth, cameras = look(by, inner)
    np.testing.assert_array_equal(depth.depth, DEPTH[8:14])
    np.testing.assert_array_equal(cameras.world_from_camera, scene.depth_and_cameras()[1].world_from_camera[8:14])


def test_each_episode_has_a_scene_of_its_own():
    model = Oracle()
    by, seen = observer(model, camera="static"), Seen(fixed=True)
    by.camera.config = replace(by.camera.config, max_motion=None)
    chunk = EpisodeChunk(5, 14, (0,))
    first = by.observe(seen.episode, True, Stopwatch())
    look(by, first.slice(chunk))
    assert model.looked == LENGTH
    other = by.observe(replace(seen.episode, ref=replace(seen.episode.ref, episode="another")), True, Stopwatch())
    look(by, other.slice(chunk))
    look(by, first.slice(chunk))
    assert model.looked == 2 * LENGTH, "what was found of the first is still there while its scene is"


def test_where_nothing_must_be_found_from_all_frames_nothing_is_read_before_its_chunk():
    seen = Seen(fixed=True)
    scene = observer(camera="static").observe(seen.episode, True, Stopwatch())
    assert scene.episode is seen.episode and scene.found is None
    assert not seen.pictures and not seen.depths


def test_an_episode_no_longer_than_a_chunk_is_looked_at_when_it_is_followed():
    seen = Seen()
    scene = observer().observe(seen.episode, False, Stopwatch())
    assert scene.found is None and not seen.pictures and not seen.depths


def resident() -> int:
    """Bytes of files that this process has in memory."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return sum(1024 * int(lines[name].split()[0]) for name in ("RssFile", "RssShmem"))


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux")
def test_what_lies_in_a_file_is_not_held_in_memory_and_stays_what_it_is():
    array = empty((200, 256, 256), np.float32, long=True)
    before = resident()
    for number, frame in enumerate(in_turn(array)):
        frame[:] = number
    assert resident() - before < array.nbytes / 2
    release(array)
    assert resident() - before < array.nbytes / 20
    assert [frame[3, 5] for frame in in_turn(array)] == list(range(200))


def test_elimination_block_by_block_solves_the_banded_system():
    rng = np.random.default_rng(0)
    count, width = 7, 4
    dense = np.zeros((count, 6, count, 6))
    for row in range(count):
        for column in range(row, min(row + width, count)):
            dense[row, :, column] = rng.standard_normal((6, 6))
    flat = dense.reshape(count * 6, count * 6)
    flat += flat.T.copy()
    flat += (1 - np.linalg.eigvalsh(flat)[0]) * np.eye(count * 6)
    blocks = rng.standard_normal((count, width, 6, 6))  # what lies beyond the last column is not looked at
    for row in range(count):
        for beside in range(min(width, count - row)):
            blocks[row, beside] = dense[row, :, row + beside]
    right = rng.standard_normal((count, 6))
    np.testing.assert_allclose(
        _solve_banded(blocks, right.copy()).ravel(), np.linalg.solve(flat, right.ravel()), atol=1e-9
    )
