"""Depth and cameras that are found from all frames of a long episode: what is made in pieces is what is made at once,
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
from pipeline.episodes.slicing import take_frames
from pipeline.episodes.spill import empty, in_turn, release
from pipeline.evaluation.synthetic_scene import RigidWorld, moving_card
from pipeline.flow_sources._scene import SceneParts
from pipeline.recipe import QualityConfig, Recipe
from pipeline.timing import Stopwatch
from pipeline.windows.maker import TripletMaker
from schemas.cameras import invert_pose
from schemas.episode import CameraView, Episode, RecordedDepth
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
        windows=replace(WINDOWS, horizon=5, chunk_megapixels=megapixels),
        camera=PluginChoice("estimated"),
        quality=QualityConfig(min_steps=2, max_edges=1, max_holes=1, min_valid=0, min_moving_points=0),
    )
    maker = TripletMaker(recipe)
    if model is not None:
        maker.source.scene.depth = EstimatedDepth(EstimatorConfig(align="none"), model)
    return list(maker.make(seen.episode))


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


def scene(model=None, camera="estimated") -> SceneParts:
    parts = SceneParts(PluginChoice("recorded"), PluginChoice(camera), 0.3)
    if model is not None:
        parts.depth = EstimatedDepth(EstimatorConfig(align="none"), model)
    return parts


def see(parts: SceneParts, part: Episode):
    depth, _, cameras = parts.see(part, 0.05, Stopwatch())
    return depth, cameras


def test_what_was_found_of_the_whole_lies_in_files_and_pieces_get_their_part_of_it():
    parts, seen = scene(), Seen()
    kept = parts.see_whole(seen.episode, Stopwatch())
    assert isinstance(kept.views["front"].frames, np.memmap)
    found = {}
    for first in (0, 4, 17):
        numbers = np.arange(first, first + 9)
        depth, cameras = see(parts, take_frames(kept, numbers))
        np.testing.assert_array_equal(depth.depth, DEPTH[numbers])
        np.testing.assert_array_equal(take_frames(kept, numbers).views["front"].frames, FRAMES[numbers])
        found[first] = cameras
    np.testing.assert_array_equal(found[0].world_from_camera[4:], found[4].world_from_camera[:5])
    np.testing.assert_allclose(found[17].world_from_camera[:, :3, 3], true_places()[17:26], atol=0.01)
    assert found[0].pose_source == found[17].pose_source


def test_another_episode_is_not_given_what_was_found_of_the_last_one():
    model = Oracle()
    parts, seen = scene(model, camera="static"), Seen(fixed=True)
    parts.camera.config = replace(parts.camera.config, max_motion=None)
    kept = parts.see_whole(seen.episode, Stopwatch())
    part = take_frames(kept, np.arange(5, 14))
    see(parts, part)
    assert model.looked == LENGTH
    see(parts, replace(part, ref=replace(part.ref, episode="another")))
    assert model.looked == LENGTH + 9
    see(parts, part)
    assert model.looked == LENGTH + 18, "the files of the last episode are gone"


def test_where_nothing_is_said_of_all_frames_at_once_nothing_is_read_before_its_piece():
    seen = Seen(fixed=True)
    assert scene(camera="static").see_whole(seen.episode, Stopwatch()) is seen.episode
    assert not seen.pictures and not seen.depths


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
