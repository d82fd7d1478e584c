"""Long episodes in chunks: the same samples, each frame decoded once,
and memory that does not grow with the episode.
"""

import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
from fixtures.lerobot import encode_video, moving
from hypothesis import given
from hypothesis import strategies as st

from pipeline.episodes.chunks import ChunkConfig, chunks_of, most_frames
from pipeline.formats import video
from pipeline.formats.video import VideoFrames, VideoSpan, read_video
from pipeline.recipe import Recipe, WindowConfig
from pipeline.windows.maker import TripletMaker
from schemas.episode import ActionConvention, BadEpisode, CameraView, Episode, EpisodeRef, RecordedDepth
from schemas.plugins import PluginChoice
from schemas.sample_codec import encode_triplet
from schemas.triplet import Rejected, Triplet

SIZE = (96, 64)
WINDOWS = WindowConfig(stride=3, horizon=10, grid=6, action_horizon=9)


def picture(number):
    """A textured wall, and before it a square that swings."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(30, 220, (16, 24, 3), dtype=np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
    left = place(number)
    image[20:44, left : left + 24] = cv2.resize(rng.integers(30, 220, (6, 6, 3), dtype=np.uint8), (24, 24))
    return image


def place(number):
    return int(36 + 26 * np.sin(number / 6))


def depth_of(number):
    depth = np.full((SIZE[1], SIZE[0]), 1.2, np.float32)
    depth[20:44, place(number) : place(number) + 24] = 0.9
    return depth


def episode(length, flat=(), moves=False, whole_only=False):
    def frames(numbers):
        return np.stack([picture(n) * (n not in flat) for n in numbers])

    def depths(numbers):
        return np.stack([depth_of(n) for n in numbers])

    poses = np.tile(np.eye(4), (length if moves else 1, 1, 1))
    poses[:, 0, 3] = np.linspace(0, 0.01, len(poses))
    every = np.arange(length)
    some = {} if whole_only else {"read_some": frames}
    view = CameraView(
        name="front",
        read_frames=lambda: frames(every),
        length=length,
        size=SIZE,
        intrinsics=np.array([[80.0, 0, 48], [0, 80, 32], [0, 0, 1]]),
        intrinsics_source="x",
        world_from_camera=poses,
        fixed=not moves,
        depth=RecordedDepth(lambda: depths(every), "m", "x", None if whole_only else depths),
        **some,
    )
    wrist = CameraView("wrist", lambda: frames(every), length, SIZE, **some)
    numbers = np.arange(length * 7.0).reshape(length, 7)
    return Episode(
        ref=EpisodeRef("x", "a", "b", "/nowhere", ""),
        views={"front": view, "wrist": wrist},
        primary="front",
        wrist="wrist",
        instructions=("swing it",),
        fps=20.0,
        state=numbers[:, :3],
        state_names=("x", "y", "z"),
        actions=numbers,
        action_mask=every < length - 1,
        action_convention=ActionConvention("x", tuple("abcdefg"), "x"),
        source_frames=every + 100,
    )


def made_of(made_from, megapixels, camera="static", **choices):
    plugins = {"dataset": PluginChoice("bridge"), "actions": PluginChoice("raw"), "camera": PluginChoice(camera)}
    recipe = Recipe(windows=WINDOWS, **plugins, **choices)
    return list(TripletMaker(recipe, ChunkConfig(megapixels)).windows(made_from))


def as_bytes(made):
    return [encode_triplet(item) if isinstance(item, Triplet) else item for item in made]


@given(
    length=st.integers(1, 400),
    stride=st.integers(1, 9),
    reach=st.integers(1, 40),
    more=st.integers(0, 100),
    kept=st.data(),
)
def test_every_reference_frame_is_in_one_piece_with_all_that_it_is_followed_through(length, stride, reach, more, kept):
    references = [r for r in range(0, length, stride) if kept.draw(st.integers(0, 3)) or r == 0]
    most = 2 * (reach + 1) + more
    chunks = list(chunks_of(length, references, reach, most))
    assert [chunk.first + r for chunk in chunks for r in chunk.references] == references
    for chunk in chunks:
        assert chunk.stop <= length and (chunk.stop - chunk.first <= most or len(chunks) == 1)
        assert all(chunk.first + r + reach < chunk.stop or chunk.stop == length for r in chunk.references)


def test_a_piece_is_as_large_as_memory_allows_and_never_mostly_overlap():
    assert most_frames(32, (640, 360), 32) == 138
    assert most_frames(1, (640, 360), 32) == 66


@pytest.mark.parametrize("camera", ["static", "recorded"])
def test_samples_made_in_pieces_are_those_made_at_once_byte_for_byte(camera):
    long = episode(61, moves=camera == "recorded")
    whole, chunks = (as_bytes(made_of(long, megapixels, camera)) for megapixels in (1, 0.001))
    assert len(whole) == 21 and sum(isinstance(item, dict) for item in whole) > 10
    assert chunks == whole


@pytest.mark.parametrize("megapixels", [1, 0.001])
def test_a_window_has_the_instructions_of_its_own_frame(megapixels):
    texts = (("reach",),) * 25 + ((),) * 20 + (("lift", "lift it"),) * 16
    changing = replace(episode(61), instructions=("reach", "lift", "lift it"), frame_instructions=texts)
    for language in ("required", "optional"):
        made = made_of(changing, megapixels, language=language)
        told = {item.source.frame - 100: item.instructions for item in made if isinstance(item, Triplet)}
        silent = [item.frame - 100 for item in made if isinstance(item, Rejected) and item.reason == "no_language"]
        assert {texts[frame] for frame in told} == set(texts if language == "optional" else (texts[0], texts[-1]))
        assert all(texts[frame] == said for frame, said in told.items())
        assert silent == ([27, 30, 33, 36, 39, 42] if language == "required" else [])


def test_a_reader_that_can_only_load_all_gives_the_same():
    assert as_bytes(made_of(episode(61, whole_only=True), 0.001)) == as_bytes(made_of(episode(61), 1))


def test_a_piece_in_which_nothing_can_be_seen_is_left_out_by_name_and_the_rest_is_made():
    made = made_of(episode(61, flat=range(34)), 0.001)
    blank = [item.frame for item in made if isinstance(item, Rejected) and item.reason == "blank_images"]
    assert blank and max(blank) < 134 and any(isinstance(item, Triplet) for item in made)
    with pytest.raises(BadEpisode, match="one flat colour"):
        made_of(episode(13, flat=range(13)), 1)


def test_memory_does_not_grow_with_the_episode():
    peaks = []
    windows = replace(WINDOWS, stride=10)
    recipe = Recipe(dataset=PluginChoice("bridge"), actions=PluginChoice("raw"), windows=windows)
    for length in (42, 122):
        long, maker = episode(length), TripletMaker(recipe, ChunkConfig(0.001))
        tracemalloc.start()
        for _ in maker.windows(long):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "a.mp4"
    encode_video(path, moving(30, 32, 48), 20.0)
    return VideoSpan(path, 0.0, 30, 20.0, True)


def test_a_video_that_is_asked_for_in_overlapping_pieces_is_decoded_once(clip, monkeypatch):
    whole, decoded = read_video("x", clip), []
    take = video._picture
    monkeypatch.setattr(video, "_picture", lambda *words: decoded.append(1) or take(*words))
    frames = VideoFrames("x", clip)
    for first, stop in ((0, 12), (8, 20), (16, 28), (24, 30)):
        assert np.array_equal(frames.some(np.arange(first, stop)), whole[first:stop])
    assert len(decoded) == 30


def test_frames_with_gaps_and_frames_before_the_last_ones_are_right_too(clip):
    whole, frames = read_video("x", clip), VideoFrames("x", clip)
    for wanted in ([0, 5, 10], [15, 20], [3, 4], [29], [0, 29]):
        assert np.array_equal(frames.some(np.array(wanted)), whole[wanted])


def test_what_is_wrong_with_a_video_is_said_in_pieces_too(clip):
    frames = VideoFrames("x", replace(clip, length=40))
    assert len(frames.some(np.arange(20))) == 20
    with pytest.raises(BadEpisode, match="ends after 30 of the episode's 40 frames"):
        frames.some(np.arange(20, 40))
    with pytest.raises(BadEpisode, match="more frames than the 25 rows"):
        VideoFrames("x", replace(clip, length=25)).some(np.array([24]))
