"""Plain videos: cut into clips, brought to a constant rate, upright; their words beside them."""

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from fixtures.lerobot import encode_video, moving

from pipeline.errors import UnreadableSource
from pipeline.formats.video_clips import ClipSpan, open_clip, video_timing
from pipeline.readers.video import CAMERA, Config, VideoReader
from schemas.episode import BadEpisode, EpisodeRef

CLIPS = Path(__file__).parents[3] / "shared/samples/bridge_clips"
NUMBERED = 40


def numbered(count=NUMBERED, height=48, width=64):
    """Frames of one brightness each, 5 apart, with a bright top left corner."""
    frames = np.repeat((20 + 5 * np.arange(count, dtype=np.uint8))[:, None, None, None], height, 1)
    frames = np.repeat(np.repeat(frames, width, 2), 3, 3)
    frames[:, :12, :16] = 255
    return frames


def number_of(frames):
    """Which of the numbered frames these are, by their middle."""
    middle = frames[:, frames.shape[1] // 2 :, frames.shape[2] // 2 :].mean((1, 2, 3))
    return np.rint((middle - 20) / 5).astype(int)


def encode_at(path, frames, milliseconds, rotation=0, aspect=None):
    """A video whose frames are shown at given times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "4", "g": "8"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for image, moment in zip(frames, milliseconds, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = int(moment), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def episodes_in(folder, **options):
    reader = VideoReader(Config(**{"text": "none", **options}))
    return [reader.read(ref) for ref in reader.list_episodes(folder)]


def clip_of(path, **changes):
    timing = video_timing("a", path)
    span = {"fps": timing.fps, "first": 0, "count": round(timing.seconds * timing.fps), "longest_side": 640} | changes
    return open_clip("a", ClipSpan(path=path, **span))


def decoded(path):
    """Every frame, by PyAV's plainest way."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not on this machine")
def test_real_clips_come_frame_for_frame_with_their_rate():
    reader = VideoReader(Config(text="filename"))
    refs = list(reader.list_episodes(CLIPS))
    assert len(refs) == 10 and [r.source for r in refs] == sorted(path.name for path in CLIPS.glob("*.mp4"))
    for ref in refs[:3]:
        episode = reader.read(ref)
        assert np.array_equal(episode.views[CAMERA].frames, decoded(ref.path))
        assert episode.fps == 15 and episode.notes == {} and episode.length == episode.state.shape[0]
        assert np.array_equal(episode.source_frames, np.arange(episode.length))
    assert reader.read(refs[2]).instructions == ("bridge data v1 berkeley toykitchen2 room8052 flip salt upright",)
    assert reader.read(refs[-1]).instructions == ("rss toykitchen2 set table",)


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not on this machine")
def test_a_real_clip_in_pieces_is_the_whole():
    path = sorted(CLIPS.glob("*granular*"))[0]
    reader = VideoReader(Config(text="none", clip_frames=20))
    pieces = [reader.read(ref) for ref in reader.list_episodes(CLIPS) if ref.source == path.name]
    assert [piece.length for piece in pieces] == [18, 18, 19, 18, 18]
    assert np.array_equal(np.concatenate([piece.views[CAMERA].frames for piece in pieces]), decoded(path))
    assert pieces[2].source_frames[0] == 36


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mp4", "libx264"), ("mov", "libx264"), ("mkv", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4")],
)
def test_every_container_in_pieces_is_the_whole(tmp_path, suffix, codec):
    """B-frames, key frames wherever they are, and times rounded to milliseconds."""
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(30000, 1001))
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for image in moving(30, 48, 64):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    pieces = episodes_in(tmp_path, clip_frames=11)
    assert [piece.length for piece in pieces] == [10, 10, 10]
    assert pieces[0].fps == pytest.approx(30000 / 1001, rel=1e-3)
    assert np.array_equal(np.concatenate([piece.views[CAMERA].frames for piece in pieces]), decoded(path))


def test_a_variable_rate_is_brought_to_a_regular_one_and_said(tmp_path):
    """Frames at 0, 100, 200 ... ms, of which some were never recorded and others doubled the rate."""
    kept = [0, 1, 2, 4, 5, 6, 7, 9, 10, 11]
    encode_at(tmp_path / "a.mp4", numbered()[kept], [100 * number for number in kept])
    (episode,) = episodes_in(tmp_path, fps=10)
    assert episode.fps == 10 and episode.length == 12
    shown = number_of(episode.views[CAMERA].frames)
    assert np.array_equal(shown[kept], kept) and set(shown) == set(kept)
    assert "brought to 10 a second: 2 frames shown twice, 0 left out" in episode.notes["frame_times"]


def test_a_chosen_rate_leaves_frames_out(tmp_path):
    encode_video(tmp_path / "a.mp4", numbered(), 20)
    (episode,) = episodes_in(tmp_path, fps=5)
    assert np.array_equal(number_of(episode.views[CAMERA].frames), np.arange(0, 40, 4))
    assert (
        episode.fps == 5
        and "30 left out" not in episode.notes["frame_times"]
        and "left out" in episode.notes["frame_times"]
    )


def test_a_hole_in_the_recording_is_named(tmp_path):
    encode_at(tmp_path / "a.mp4", numbered(20), [*range(0, 1000, 100), *range(3000, 4000, 100)])
    with pytest.raises(BadEpisode, match=r"shows nothing new for 2\.10 s from 0\.90 s on") as error:
        episodes_in(tmp_path, fps=10)
    assert error.value.code == "timestamps_off"


@pytest.mark.parametrize(
    ("rotation", "turn"),
    [(-90, cv2.ROTATE_90_CLOCKWISE), (90, cv2.ROTATE_90_COUNTERCLOCKWISE), (180, cv2.ROTATE_180)],
)
def test_a_phone_held_upright_gives_upright_pictures(tmp_path, rotation, turn):
    """The file's matrix turns anticlockwise by the angle; -90 is a phone held upright."""
    encode_at(tmp_path / "a.mp4", numbered(6), range(0, 600, 100), rotation)
    (episode,) = episodes_in(tmp_path)
    expected = np.stack([cv2.rotate(image, turn) for image in numbered(6)])
    view = episode.views[CAMERA]
    assert view.size == (expected.shape[2], expected.shape[1])
    assert np.abs(view.frames.astype(int) - expected).mean() < 6


def test_pixels_become_square_and_large_pictures_small(tmp_path):
    encode_at(tmp_path / "wide" / "a.mp4", numbered(4), range(0, 400, 100), aspect=Fraction(2, 1))
    encode_video(tmp_path / "large" / "a.mp4", moving(4, 96, 160), 10)
    (episode,) = episodes_in(tmp_path / "wide")
    assert episode.views[CAMERA].size == (128, 48)
    (episode,) = episodes_in(tmp_path / "large", longest_side=80)
    view = episode.views[CAMERA]
    assert view.size == (80, 48) == (view.frames.shape[2], view.frames.shape[1])
    smaller = np.stack([cv2.resize(image, (80, 48), interpolation=cv2.INTER_AREA) for image in moving(4, 96, 160)])
    assert np.abs(view.frames.astype(int) - smaller).mean() < 6


def test_what_is_not_known_is_not_invented(tmp_path):
    encode_video(tmp_path / "a.mp4", numbered(6), 10)
    (episode,) = episodes_in(tmp_path)
    view = episode.views[CAMERA]
    assert not view.fixed and view.intrinsics is None and view.depth is None
    assert episode.actions.shape == episode.state.shape == (6, 0) and not episode.action_mask.any()
    assert episode.success is None and episode.action_convention.name == "none"
    (episode,) = episodes_in(tmp_path, fixed=True)
    assert episode.views[CAMERA].fixed


def texts_of(folder):
    """By a look at the words alone, which is what the episodes say too."""
    reader = VideoReader(Config())
    told = {ref.source: reader.words(ref).instructions for ref in reader.list_episodes(folder)}
    assert told == {episode.ref.source: episode.instructions for episode in episodes_in(folder, text="beside")}
    return told


def test_words_beside_the_videos_in_each_way(tmp_path):
    for name in ("a.mp4", "b.mp4", "in/c.mp4", "in/d.mp4", "e.mp4"):
        encode_video(tmp_path / name, numbered(3), 10)
    (tmp_path / "a.txt").write_text("open it\nopen the drawer\n")
    (tmp_path / "texts.csv").write_text('\ufefffile,text\nb.mp4,"close, slowly"\nb.mp4,shut it\nin/d.mp4,from above\n')
    (tmp_path / "in" / "texts.jsonl").write_text('{"file": "c.mp4", "text": "wave"}\n\n')
    (tmp_path / "texts.json").write_text(json.dumps({"e.mp4": ["one", " ", "two", "one"]}))
    assert texts_of(tmp_path) == {
        "a.mp4": ("open it", "open the drawer"),
        "b.mp4": ("close, slowly", "shut it"),
        "e.mp4": ("one", "two"),
        "in/c.mp4": ("wave",),
        "in/d.mp4": ("from above",),
    }


def test_other_words_are_another_fingerprint(tmp_path):
    encode_video(tmp_path / "a.mp4", numbered(3), 10)
    reader = VideoReader(Config())
    (before,) = reader.list_episodes(tmp_path)
    (tmp_path / "a.txt").write_text("wave")
    (after,) = reader.list_episodes(tmp_path)
    assert before.fingerprint != after.fingerprint and before.digest == after.digest


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("texts.csv", "name,words\na.mp4,b\n", "must name the columns file and text, found"),
        ("texts.json", "[1]", "texts.json is no table of files and texts"),
        ("texts.jsonl", '{"file": "a.mp4"}\n', "is no table of files and texts: 'text'"),
        ("a.txt", b"\xff\xfe", "a.txt is not UTF-8 text"),
    ],
)
def test_words_that_cannot_be_read_are_named_and_the_rest_goes_on(tmp_path, name, text, says):
    for folder in ("bad", "good"):
        encode_video(tmp_path / folder / "a.mp4", numbered(3), 10)
    (tmp_path / "bad" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    problem, ref = VideoReader(Config()).list_episodes(tmp_path)
    assert isinstance(problem, UnreadableSource) and problem.code == "bad_texts" and says in str(problem)
    assert isinstance(ref, EpisodeRef) and ref.source == "good/a.mp4"


def test_files_that_are_no_video_are_named_and_the_rest_goes_on(tmp_path):
    encode_video(tmp_path / "good.mp4", numbered(12), 10)
    (tmp_path / "none.mp4").write_bytes(b"no video at all")
    (tmp_path / "empty.webm").write_bytes(b"")
    reader = VideoReader(Config(text="none"))
    found = list(reader.list_episodes(tmp_path))
    assert [(f.source, getattr(f, "code", None)) for f in found] == [
        ("empty.webm", "bad_video"),
        ("good.mp4", None),
        ("none.mp4", "bad_video"),
    ]


def test_a_file_that_was_cut_short_gives_what_is_there_or_a_reason(tmp_path):
    path = tmp_path / "a.mkv"
    encode_video(path, moving(40, 48, 64), 10)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reader = VideoReader(Config(text="none", clip_frames=10))
    whole, codes = 0, []
    for ref in reader.list_episodes(tmp_path):
        try:
            whole += len(reader.read(ref).views[CAMERA].frames)
        except BadEpisode as error:
            codes.append(error.code)
    assert 10 <= whole < 40 and codes and set(codes) <= {"bad_video", "too_short"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fps": 0.0}, "fps must be above 0"),
        ({"clip_frames": 1}, "clip_frames must be 2 or more"),
        ({"clip_frames": 5000}, "may need 14.3 GB in each worker"),
        ({"name": "a b"}, "name may hold letters"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Config(**options)


def test_a_folder_of_lerobot_is_no_folder_of_videos(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text("{}")
    encode_video(tmp_path / "videos" / "a.mp4", numbered(3), 10)
    with pytest.raises(FileNotFoundError, match="holds no video"):
        list(VideoReader(Config()).list_episodes(tmp_path))


def encode_reordered(path, codec, frames, rate=10):
    """A video whose frames are stored in another order than they are shown: B-frames, a key frame in nine."""
    options = {"crf": "4", "g": "9", "bf": "2"} if codec == "libx264" else {"qscale": "2"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.max_b_frames, stream.codec_context.gop_size = 2, 9
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.dts is not None]
    assert codec == "libx264" or any(packet.pts != packet.dts + 1 for packet in packets), "frames are out of order"


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("avi", "mpeg4"), ("avi", "libx264"), ("mkv", "mpeg4"), ("mp4", "mpeg4"), ("mp4", "libx264"), ("ts", "libx264")],
)
@pytest.mark.parametrize("clip_frames", [256, 7])
def test_frames_that_are_stored_out_of_order_are_shown_in_order_and_none_is_shifted(
    tmp_path, suffix, codec, clip_frames
):
    path = tmp_path / f"a.{suffix}"
    encode_reordered(path, codec, numbered(NUMBERED))
    clips = episodes_in(tmp_path, clip_frames=clip_frames)
    frames = np.concatenate([clip.views[CAMERA].frames for clip in clips])
    assert np.array_equal(frames, decoded(path)) and len(frames) == NUMBERED
    assert np.abs(number_of(frames) - np.arange(NUMBERED)).max() <= (0 if codec == "libx264" else 1)
    assert all(clip.notes == {} and clip.fps == 10 for clip in clips)


EIGHT = [(degrees, flip) for degrees in (0, 90, 180, -90) for flip in (False, True)]


@pytest.mark.parametrize(("degrees", "flip"), EIGHT)
def test_pictures_that_are_to_be_turned_and_mirrored_are_both(tmp_path, degrees, flip):
    path = tmp_path / "a.mp4"
    frames = numbered(4)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "4"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.set_display_rotation(degrees, hflip=flip)
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
    (episode,) = episodes_in(tmp_path)
    expected = np.rot90(frames, degrees // 90, axes=(1, 2))
    expected = expected[:, :, ::-1] if flip else expected
    assert np.abs(episode.views[CAMERA].frames.astype(int) - expected).mean() < 6


def packed_b_frames(path, frames):
    """An AVI as DivX and Xvid write it: a B-frame in one packet with the frame that is shown after it, and an empty
    frame where it would have been.
    """
    start, said, empty = b"\x00\x00\x01\xb6", b"\x00\x00\x01\xb2DivX503b1393p", b"\x00\x00\x01\xb6\x50\x5f"
    plain = path.with_suffix(".plain")
    with av.open(str(plain), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=10, options={"qscale": "2"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.max_b_frames = 1
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(plain)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        stored: list[tuple[bytes, bool]] = []
        for packet in source.demux(video=0):
            data = bytes(packet)
            if data and data[data.index(start) + 4] >> 6 == 2:  # a B-frame
                stored[-1] = stored[-1][0] + data, stored[-1][1]
                stored.append((empty, False))
            elif data:
                stored.append(
                    (data.replace(start, said + start, 1) if packet.is_keyframe else data, packet.is_keyframe)
                )
        assert any(data == empty for data, _ in stored)
        for number, (data, key) in enumerate(stored):
            packet = av.Packet(data)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 10), stream, key
            container.mux(packet)
    plain.unlink()


@pytest.mark.parametrize("clip_frames", [256, 7])
def test_packed_b_frames_are_shown_in_order_and_none_is_shifted(tmp_path, clip_frames):
    path = tmp_path / "a.avi"
    packed_b_frames(path, numbered(NUMBERED))
    frames = np.concatenate([clip.views[CAMERA].frames for clip in episodes_in(tmp_path, clip_frames=clip_frames)])
    assert np.array_equal(frames, decoded(path)) and len(frames) == NUMBERED
    assert np.abs(number_of(frames) - np.arange(NUMBERED)).max() <= 1


def test_a_video_of_several_shots_is_divided_where_the_scene_changes(tmp_path):
    rng = np.random.default_rng(0)
    scenes = [cv2.resize(rng.integers(0, 255, (6, 9, 3), np.uint8), (96, 48)) for _ in range(3)]
    shots = [np.stack([s[:, i : i + 64] for i in range(n)]) for s, n in zip(scenes, (14, 9, 12), strict=True)]
    encode_video(tmp_path / "a.mp4", np.concatenate(shots), 10)
    encode_video(tmp_path / "b.mp4", shots[0], 10)
    refs = list(VideoReader(Config(text="none", shots="split", clip_frames=8)).list_episodes(tmp_path))
    names = [(ref.source, ref.episode) for ref in refs if isinstance(ref, EpisodeRef)]
    assert names == [
        *(("a.mp4", name) for name in ("shot_0_0-7", "shot_0_7-14", "shot_1_14-18", "shot_1_18-23")),
        *(("a.mp4", name) for name in ("shot_2_23-29", "shot_2_29-35")),
        *(("b.mp4", name) for name in ("shot_0_0-7", "shot_0_7-14")),
    ]
    clips = episodes_in(tmp_path, shots="split", clip_frames=8)
    frames = np.concatenate([clip.views[CAMERA].frames for clip in clips if clip.ref.source == "a.mp4"])
    assert np.array_equal(frames, decoded(tmp_path / "a.mp4"))
    assert clips[2].source_frames is not None and clips[2].source_frames[0] == 14
    assert [ref.episode for ref in VideoReader(Config(text="none")).list_episodes(tmp_path)] == ["clip_0", "clip_0"]
