"""Reads plain video files as clips at a constant rate: upright, with square pixels, of bounded size, by the times in
the file.

A file with a variable frame rate is sampled on a regular grid of times; each time gets the frame nearest to it. The
times of a clip come from its packets alone, and only its own frames are decoded.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from pipeline.formats.display_matrix import display_matrix, shown, swaps_sides
from pipeline.formats.video import opened_video, same_size
from schemas.episode import BadEpisode

SUFFIXES = (".mp4", ".webm", ".mov", ".avi", ".mkv", ".m4v", ".mpg", ".mpeg", ".ogv", ".ts")
"""Suffixes of files that count as videos."""

MOST_FPS = 240.0
RATE_S, SAME_RATE = 4.0, 0.01
SAME_S = 1e-4
ORIGIN_S = 1.0
"""Seconds at a file's beginning that are searched for its first frame."""
MOST_REORDERED = 16
"""Largest number of frames by which H.264 may be out of order."""
SEARCHED, EARLY_S = ("mpegts", "mpeg"), 1.0
"""Formats without an index, and how far before a time they are searched."""
MOST_BACK_S = 16.0
"""How far before a file's beginning a key frame is searched, at most."""
GAP_S, GAP_FRAMES = 0.5, 3
"""A pause longer than both is a gap in the recording, not a variable rate."""


def is_video(name: str) -> bool:
    """Whether a file name is that of a video."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


@dataclass(frozen=True)
class ClipSpan:
    """A clip of a video file.

    Attributes:
        fps: rate of the time grid.
        first, count: first number and length on the grid: frame i of the clip is shown at (first + i) / fps seconds.
            There are fewer frames if the file ends earlier.
        longest_side: larger pictures are scaled down to this; smaller ones are not enlarged.
    """

    path: Path
    fps: float
    first: int
    count: int
    longest_side: int


@dataclass(frozen=True)
class Timing:
    """Frame rate and length of a file.

    Attributes:
        fps: its mean rate, or that of most frames if it states none.
        seconds: its duration; the last clip may turn out shorter.
    """

    fps: float
    seconds: float


def video_timing(name: str, path: Path) -> Timing:
    """Rate and length from the file's header, or from its packets if the header does not give them.

    Raises:
        BadEpisode: the file is not a video, or has no times.
    """
    with opened_video(name, path) as (container, stream):
        rate = float(stream.average_rate or 0)
        seconds = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
        stated = 0 < rate <= MOST_FPS and seconds > 0
        origin = _origin(container, stream)
        _seek(container, stream, 0, origin)
        times = _packet_times(container, stream, RATE_S if stated else None, origin)
    if len(times) < 2:
        raise BadEpisode("too_short", f"{name}: {path.name} has {len(times)} frame(s) with a time; a clip needs 2")
    gaps = np.diff(times)
    regular = float(np.ptp(gaps)) < 0.1 * gaps.mean()
    measured = 1 / float(gaps.mean() if regular else np.median(gaps))
    if measured > MOST_FPS:
        raise BadEpisode(
            "timestamps_off", f"{name}: {path.name} shows {measured:.0f} frames a second, which is no video"
        )
    if stated and not (regular and abs(rate / measured - 1) > SAME_RATE):  # some headers do not count the last frame
        return Timing(rate, seconds)
    return Timing(measured, seconds if stated else float(times[-1] - times[0]) + 1 / measured)


@dataclass(frozen=True)
class Clip:
    """A clip with known times.

    Attributes:
        length: T; less than requested if the file ends earlier.
        size: (width, height) of the pictures that are returned.
        variable: how the frames were brought to a constant rate, in words; empty if nothing had to be done.
    """

    span: ClipSpan
    length: int
    size: tuple[int, int]
    variable: str
    _times: tuple[float, ...]
    _origin: int

    def read(self, name: str) -> UInt8[np.ndarray, "T H W 3"]:
        """All frames, RGB.

        Raises:
            BadEpisode: the file is missing or damaged.
        """
        frames = np.empty((self.length, self.size[1], self.size[0], 3), np.uint8)
        done, stored = 0, None
        with opened_video(name, self.span.path) as (container, stream):
            for frame, seconds in _frames_from(container, stream, self._times[0], self._origin):
                if seconds < self._times[done] - SAME_S:
                    continue
                if frame.is_corrupt:
                    raise BadEpisode(
                        "bad_video", f"{name}: the frame at {seconds:.2f} s of {self.span.path.name} is damaged"
                    )
                stored = same_size(name, frame, stored, f"the frame at {seconds:.2f} s of {self.span.path.name}")
                image = _upright(name, frame, self.size)
                while done < self.length and abs(seconds - self._times[done]) <= SAME_S:
                    frames[done] = image
                    done += 1
                if done == self.length:
                    return frames
                if self._times[done] < seconds - SAME_S:
                    break
        raise BadEpisode(
            "bad_video",
            f"{name}: {self.span.path.name} announces a frame at {self._times[done]:.2f} s that cannot be decoded",
        )


def open_clip(name: str, span: ClipSpan) -> Clip:
    """A clip's times, from its packets, and the size of its pictures, from its first frame.

    Raises:
        BadEpisode: the file is missing or not a video, ends before the clip begins, or has a gap within the clip.
    """
    grid = (span.first + np.arange(span.count)) / span.fps
    with opened_video(name, span.path) as (container, stream):
        origin = _origin(container, stream)
        _seek(container, stream, float(grid[0]) - 1 / span.fps, origin)
        times = _packet_times(container, stream, float(grid[-1]) + 1 / span.fps, origin)
        grid = grid[: _within(times, grid)]
        if len(grid) < 2:
            raise BadEpisode("too_short", f"{name}: {span.path.name} ends before the clip has 2 frames")
        chosen = _nearest(times, grid)
        size = None
        for frame, _ in _frames_from(container, stream, float(times[chosen[0]]), origin):
            size = _shown_size(name, frame, stream, span.longest_side)
            break
    if size is None:
        raise BadEpisode("bad_video", f"{name}: {span.path.name} cannot be decoded at {grid[0]:.2f} s")
    _check_gaps(name, span, times[chosen[0] : chosen[-1] + 1])
    return Clip(span, len(grid), size, _variable(chosen), tuple(times[chosen].tolist()), origin)


def _origin(container: Any, stream: Any) -> int:
    """The time of the file's first frame, in units of the stream; all other times count from there.

    The stream's own start may be earlier: AVI files with B-frames begin with the first packet and not with the first
    picture, which is shown a frame or two later. The file must be at its beginning, where packets are read.
    """
    start = stream.start_time or 0
    first = None
    for packet in container.demux(stream):
        moment = packet.pts if packet.pts is not None else packet.dts
        if moment is not None and moment >= start and (first is None or moment < first):
            first = moment
        if packet.dts is not None and (packet.dts - start) * stream.time_base > ORIGIN_S:
            break
    return start if first is None else first


def _frames_from(container: Any, stream: Any, first_s: float, origin: int) -> Iterator[tuple[Any, float]]:
    """Decoded frames with their times, in display order, beginning with a frame that is shown at or before
    ``first_s``.

    Args:
        origin: see ``_origin``.
    """
    back = SAME_S
    while True:
        _seek(container, stream, first_s - back, origin)
        frames = _timed(container, stream, origin)
        begun = next(frames, None)
        if begun is None or begun[1] <= first_s + SAME_S or back > first_s + MOST_BACK_S:
            break
        back = max(1.0, 4 * back)  # the key frame found is shown later: files index them by decoding time
    if begun is not None:
        yield begun
        yield from frames


def _timed(container: Any, stream: Any, origin: int) -> Iterator[tuple[Any, float]]:
    """Frames in display order, with their times.

    AVI stores no display times, and the times used instead may be in decoding order (H.264). Decoders return frames in
    display order, so the times are sorted, within the number of frames that can be out of order.
    """
    ahead = MOST_REORDERED if container.format.name == "avi" else 0
    waiting: deque[Any] = deque()
    moments: list[int] = []
    for frame in container.decode(stream):
        moment = frame.pts if frame.pts is not None else frame.dts
        if moment is None:
            continue
        waiting.append(frame)
        heappush(moments, moment)
        if len(waiting) > ahead:
            yield waiting.popleft(), _since(heappop(moments), stream, origin)
    while waiting:
        yield waiting.popleft(), _since(heappop(moments), stream, origin)


def _packet_times(container: Any, stream: Any, until: float | None, origin: int) -> Float[np.ndarray, " N"]:
    """Sorted display times of the frames, in seconds from the first one; packets come slightly out of order."""
    found = set()
    for packet in container.demux(stream):
        moment = packet.pts if packet.pts is not None else packet.dts
        if moment is not None and moment >= origin:
            found.add(_since(moment, stream, origin))
        decoded = packet.dts
        if until is not None and decoded is not None and _since(decoded, stream, origin) > until + 1:
            break
    times = np.array(sorted(found), np.float64)
    return times if until is None else times[times <= until]


def _since(moment: int, stream: Any, origin: int) -> float:
    return float((moment - origin) * stream.time_base)


def _seek(container: Any, stream: Any, seconds: float, origin: int) -> None:
    """Go to a key frame before a time, or to the file's beginning.

    AVI is indexed by decoding time and refuses positions before its beginning. MPEG streams have no index and are
    searched; their first key frame is found only when the search starts before it.
    """
    kind, begin = container.format.name, stream.start_time or 0
    early = MOST_REORDERED / float(stream.average_rate or 1) if kind == "avi" else EARLY_S if kind in SEARCHED else 0.0
    place = origin + int((seconds - early) / stream.time_base)
    container.seek(max(place, begin) if kind == "avi" else place, stream=stream)


def _nearest(times: Float[np.ndarray, " N"], grid: Float[np.ndarray, " T"]) -> Int[np.ndarray, " T"]:
    """For each time of the grid the number of the nearest frame."""
    after = np.clip(np.searchsorted(times, grid), 1, max(len(times) - 1, 1))
    after = np.minimum(after, len(times) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(grid - times[before] <= times[after] - grid, before, after)


def _within(times: Float[np.ndarray, " N"], grid: Float[np.ndarray, " T"]) -> int:
    """How many times of the grid the frames cover, up to half a frame after the last."""
    if len(times) < 2:
        return 0
    return int((grid <= times[-1] + 0.5 * np.median(np.diff(times))).sum())


def _check_gaps(name: str, span: ClipSpan, times: Float[np.ndarray, " N"]) -> None:
    gaps = np.diff(times)
    if len(gaps) and gaps.max() > max(GAP_S, GAP_FRAMES / span.fps):
        where = int(gaps.argmax())
        raise BadEpisode(
            "timestamps_off",
            f"{name}: {span.path.name} shows nothing new for {gaps[where]:.2f} s from {times[where]:.2f} s on",
        )


def _variable(chosen: Int[np.ndarray, " T"]) -> str:
    repeated, dropped = int((np.diff(chosen) == 0).sum()), int((np.diff(chosen) - 1).clip(min=0).sum())
    return f"{repeated} frames shown twice, {dropped} left out" if repeated or dropped else ""


def _shown_size(name: str, frame: Any, stream: Any, longest_side: int) -> tuple[int, int]:
    """Width and height of a frame with square pixels, upright, within the longest side."""
    aspect = float(stream.sample_aspect_ratio or 1) or 1.0
    width, height = frame.width * aspect, float(frame.height)
    if swaps_sides(display_matrix(name, frame)):
        width, height = height, width
    scale = min(1.0, longest_side / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _upright(name: str, frame: Any, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    import cv2

    image = shown(frame.to_ndarray(format="rgb24"), display_matrix(name, frame))
    if (image.shape[1], image.shape[0]) == size:
        return np.ascontiguousarray(image)
    return cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA)
