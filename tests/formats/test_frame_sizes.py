"""A frame size that changes within a clip is named, whatever reads the video."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.formats.images import decode_pictures
from pipeline.formats.video import VideoFrames, VideoSpan, read_video
from pipeline.formats.video_clips import ClipSpan, open_clip
from schemas.episode import BadEpisode

SIZES = [(64, 48)] * 3 + [(48, 32)] * 2


def video(path: Path, sizes: list[tuple[int, int]]) -> Path:
    """Motion JPEG, in which every frame has a size of its own."""
    tick = Fraction(1, 10)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=10)
        (stream.width, stream.height), stream.pix_fmt = sizes[0], "yuvj420p"
        for number, (width, height) in enumerate(sizes):
            coder = av.CodecContext.create("mjpeg", "w")
            coder.width, coder.height, coder.pix_fmt, coder.time_base = width, height, "yuvj420p", tick
            grey = np.full((height, width, 3), 20 * number + 40, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format="yuvj420p")
            frame.pts, frame.time_base = number, tick
            for packet in [*coder.encode(frame), *coder.encode(None)]:
                packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, tick
                out.mux(packet)
    return path


def test_in_a_datasets_video(tmp_path):
    span = VideoSpan(video(tmp_path / "clip.mkv", SIZES), 0.0, 5, 10.0, True)
    with pytest.raises(BadEpisode, match=r"frame 3 of clip\.mkv is 48 x 32, those before it 64 x 48") as error:
        read_video("episode", span)
    assert error.value.code == "frame_size_changes"
    frames = VideoFrames("episode", span)
    assert frames.some(np.arange(3)).shape == (3, 48, 64, 3)
    with pytest.raises(BadEpisode, match="48 x 32"):
        frames.some(np.array([2, 3]))


def test_in_plain_video(tmp_path):
    path = video(tmp_path / "clip.mkv", SIZES)
    clip = open_clip("episode", ClipSpan(path, 10.0, 0, 5, 640))
    with pytest.raises(BadEpisode, match=r"the frame at 0.30 s of clip\.mkv is 48 x 32") as error:
        clip.read("episode")
    assert error.value.code == "frame_size_changes"


def test_in_pictures():
    encoded = [cv2.imencode(".jpg", np.full((h, w, 3), 90, np.uint8))[1].tobytes() for w, h in SIZES]
    with pytest.raises(BadEpisode, match="frame 3 is 48 x 32, the first is 64 x 48") as error:
        decode_pictures("episode", encoded)
    assert error.value.code == "bad_picture"
