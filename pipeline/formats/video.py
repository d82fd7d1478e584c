"""Decodes videos to frames with PyAV: one pass in order, no seek per frame. Supports AV1 and H.264."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, UInt8

from pipeline.formats.lfs import CODE, is_lfs_pointer, lfs_words
from schemas.episode import BadEpisode
from schemas.file_cache import local_file

NEAR = 0.25
"""Largest time difference between a picture and its row, in frames."""


@dataclass(frozen=True)
class VideoSpan:
    """An episode's span of a video file.

    Attributes:
        path: the file.
        start_s: when its first frame is shown, from the beginning of the file.
        length: T, the number of frames.
        fps: frames per second of the file; None if its times are meaningless, so that frames are matched by number.
        alone: the file holds only this episode, so that an extra frame is a fault.
        side: which half of a picture that shows both eyes of a camera side by side, or all of it.
        reduced: the whole number by which the picture is scaled down.
        times: when each frame is shown, seconds from the beginning of the file; by default every 1 / fps from
            ``start_s`` on.
    """

    path: Path
    start_s: float
    length: int
    fps: float | None
    alone: bool
    side: Literal["all", "left", "right"] = "all"
    reduced: int = 1
    times: tuple[float, ...] | None = None

    def time_of(self, number: int) -> float:
        """When a frame is shown, seconds from the beginning of the file."""
        return self.start_s + number / (self.fps or 1) if self.times is None else self.times[number]


def count_frames(name: str, path: Path) -> int:
    """The number of frames of a video, from its header, or from its packets if the header does not give it.

    Raises:
        BadEpisode: the file is missing or not a video.
    """
    with opened_video(name, path) as (container, stream):
        return stream.frames or sum(packet.size > 0 for packet in container.demux(stream))


def check_end(name: str, span: VideoSpan, most: int = 1) -> int:
    """How many of the episode's last pictures are missing from its file, by its header; 0 if the header does not say.

    Args:
        most: how many may be missing.

    Raises:
        BadEpisode: the file is missing or not a video, or more pictures are missing.
    """
    with opened_video(name, span.path) as (_, stream):
        if span.fps is None or not stream.frames or not stream.average_rate:
            return 0
        last_s = (stream.frames - 1) / float(stream.average_rate)
        missing = max(int(np.ceil((span.time_of(span.length - 1) - last_s) * span.fps - NEAR)), 0)
    if missing > most:
        raise _too_short(name, span, max(span.length - missing, 0))
    return missing


def first_frame(name: str, span: VideoSpan) -> UInt8[np.ndarray, "H W 3"]:
    """The episode's first frame, RGB.

    Raises:
        BadEpisode: it cannot be decoded.
    """
    with opened_video(name, span.path) as (container, stream):
        for frame, _ in _frames_from(container, stream, span):
            return _picture(frame, span, _reformatter())
    raise _too_short(name, span, 0)


def read_video(name: str, span: VideoSpan) -> UInt8[np.ndarray, "T H W 3"]:
    """All frames of the episode, RGB.

    Raises:
        BadEpisode: the file is missing, damaged, shorter or longer than the episode, or a frame's time does not
            match its number.
    """
    return VideoFrames(name, span).some(np.arange(span.length))


class VideoFrames:
    """Frames of an episode's video, a few at a time. Calls with rising numbers decode each frame once, in order.

    The frames of the last call are kept, because the next call may overlap it.
    """

    def __init__(self, name: str, span: VideoSpan):
        self.name, self.span = name, span
        self._decoded: Iterator[UInt8[np.ndarray, "H W 3"]] | None = None
        self._next, self._kept_first, self._kept = 0, 0, np.zeros((0, 1, 1, 3), np.uint8)

    def some(self, frames: Int[np.ndarray, " N"]) -> UInt8[np.ndarray, "N H W 3"]:
        """The frames with these numbers, in ascending order.

        Raises:
            BadEpisode: see ``read_video``; frames after the last requested one are not checked.
        """
        first, last = int(frames[0]), int(frames[-1])
        if self._decoded is None or first < self._kept_first:
            self._decoded, self._next = _checked_frames(self.name, self.span), 0
            self._kept_first, self._kept = 0, self._kept[:0]
        found: np.ndarray | None = None
        try:
            for place, number in enumerate(frames.tolist()):
                image = self._frame(number)
                if found is None:
                    found = np.empty((len(frames), *image.shape), np.uint8)
                found[place] = image
            assert found is not None, "at least one frame is asked for"
            if self._next == self.span.length:  # raises if the file has more frames than the episode
                next(self._decoded, None)
        except BadEpisode:
            self._decoded = None
            raise
        whole = len(frames) == last - first + 1  # frames with gaps are not requested again
        self._kept_first, self._kept = (first, found) if whole else (self._next, found[:0])
        return found

    def _frame(self, number: int) -> UInt8[np.ndarray, "H W 3"]:
        if number < self._kept_first + len(self._kept):
            return self._kept[number - self._kept_first]
        assert self._decoded is not None
        for image in self._decoded:
            self._next += 1
            if self._next > number:
                return image
        raise _too_short(self.name, self.span, self._next)


def _checked_frames(name: str, span: VideoSpan) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The episode's frames in order, each checked."""
    reformatter = _reformatter()
    size: tuple[int, int] | None = None
    with opened_video(name, span.path) as (container, stream):
        found = _frames_from(container, stream, span)
        for count, frame in enumerate(_counted(name, span, found) if span.fps is None else _nearest(name, span, found)):
            if frame.is_corrupt:
                raise BadEpisode("bad_video", f"{name}: frame {count} of {span.path.name} is damaged")
            size = same_size(name, frame, size, f"frame {count} of {span.path.name}")
            yield _picture(frame, span, reformatter)


def _counted(name: str, span: VideoSpan, frames: Iterator[tuple[Any, float]]) -> Iterator[Any]:
    """The episode's frames, matched by their number."""
    for count, (frame, _) in enumerate(frames):
        if count == span.length:
            if span.alone:
                raise _too_long(name, span)
            return
        yield frame


def _nearest(name: str, span: VideoSpan, frames: Iterator[tuple[Any, float]]) -> Iterator[Any]:
    """For each of the episode's times the nearest frame; a time without a frame near it is an error."""
    row, held, apart, frame_s = 0, None, 0.0, 1 / (span.fps or 1)
    for frame, seconds in frames:
        if held is not None and abs(seconds - span.time_of(row)) < apart:
            held, apart = frame, abs(seconds - span.time_of(row))  # of a video with more frames than rows
            continue
        if held is not None:
            yield held
            row, held = row + 1, None
        if row == span.length:
            if not span.alone:
                return
            if seconds > span.time_of(row - 1) + (1 - NEAR) * frame_s:
                raise _too_long(name, span)
            continue
        late = seconds - span.time_of(row)
        if late > NEAR * frame_s:
            raise BadEpisode(
                "timestamps_off", f"{name}: frame {row} is shown {late:.3f} s after its time in {span.path.name}"
            )
        if late >= -NEAR * frame_s:
            held, apart = frame, abs(late)
    if held is not None:
        yield held


def _too_long(name: str, span: VideoSpan) -> BadEpisode:
    said = f"{name}: {span.path.name} has more frames than the {span.length} rows of its table"
    return BadEpisode("video_too_long", said)


def same_size(name: str, frame: Any, size: tuple[int, int] | None, which: str) -> tuple[int, int]:
    """(width, height) of a decoded frame in pixels, which must be that of the frames before it, if there were any.

    Raises:
        BadEpisode: ``frame_size_changes``.
    """
    found = (frame.width, frame.height)
    if size is not None and found != size:
        raise BadEpisode(
            "frame_size_changes",
            f"{name}: {which} is {found[0]} x {found[1]}, those before it {size[0]} x {size[1]}",
        )
    return found


def _picture(frame: Any, span: VideoSpan, reformatter: Any) -> UInt8[np.ndarray, "H W 3"]:
    """A decoded frame as the span requires: one eye of two if asked for, scaled down by averaging.

    Args:
        reformatter: reused between frames, because creating one costs more than using it.
    """
    from av.video.reformatter import Interpolation as By

    width, height = frame.width // span.reduced, frame.height // span.reduced
    same_everywhere = By.AREA | By.ACCURATE_RND | By.BITEXACT  # otherwise the bytes depend on the processor
    image = reformatter.reformat(
        frame, width, height, format="rgb24", interpolation=same_everywhere, threads=1
    ).to_ndarray()
    if span.side == "all":
        return image
    half = image.shape[1] // 2
    return image[:, :half] if span.side == "left" else image[:, half : 2 * half]


def _reformatter() -> Any:
    from av.video.reformatter import VideoReformatter

    return VideoReformatter()


def _too_short(name: str, span: VideoSpan, count: int) -> BadEpisode:
    return BadEpisode(
        "video_too_short", f"{name}: {span.path.name} ends after {count} of the episode's {span.length} frames"
    )


@contextmanager
def opened_video(name: str, path: Path) -> Iterator[tuple[Any, Any]]:
    """PyAV's container and its first video stream; one thread decodes.

    Raises:
        BadEpisode: the file is missing or not a video, or decoding in the block fails.
    """
    import av
    from av.error import FFmpegError

    if not path.is_file():
        raise BadEpisode("missing_video", f"{name}: there is no file {path}")
    if is_lfs_pointer(path):
        raise BadEpisode(CODE, f"{name}: {lfs_words(path.name)}")
    try:
        with local_file(path) as here, av.open(str(here)) as container:
            if not container.streams.video:
                raise BadEpisode("bad_video", f"{name}: {path.name} holds no video stream")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise BadEpisode("bad_video", f"{name}: {path.name} is of no kind that can be decoded")
            stream.codec_context.thread_count = 1  # workers share a machine; decoders would use all its cores
            yield container, stream
    except (FFmpegError, ValueError) as error:
        raise BadEpisode("bad_video", f"{name}: {path.name} cannot be decoded: {error}") from error


def _frames_from(container: Any, stream: Any, span: VideoSpan) -> Iterator[tuple[Any, float]]:
    """Frames from the episode's first on, with their times; one seek to the key frame before it, if other frames come
    first.
    """
    origin, start = stream.start_time or 0, span.time_of(0)
    if span.fps is not None:
        start -= NEAR / span.fps
    if start > 0:
        container.seek(origin + int(start / stream.time_base), stream=stream)
    for frame in container.decode(stream):
        if frame.pts is None:
            raise BadEpisode("timestamps_off", f"{span.path}: a frame has no time")
        seconds = float((frame.pts - origin) * stream.time_base)
        if span.fps is None or seconds >= start:
            yield frame, seconds
