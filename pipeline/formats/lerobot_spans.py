"""Faults in the times that LeRobot v3.0 lists for episodes in a shared video file.

They are found from the list alone: two episodes that claim the same seconds, and starts that drift off the frame grid,
so that a neighbouring picture would be read instead of the right one.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.formats.video import NEAR, VideoSpan

Spans = Iterable[tuple[int, Mapping[str, VideoSpan], Mapping[str, float]]]
"""For each episode its number and, by camera, its span of a video and the end of the span in seconds."""


def span_faults(episodes: Spans) -> dict[tuple[int, str], tuple[str, str]]:
    """Code and sentence by episode and camera, for those whose span of the video cannot be right."""
    files: dict[tuple[str, Path], list[tuple[float, float, int, VideoSpan]]] = defaultdict(list)
    found: dict[tuple[int, str], tuple[str, str]] = {}
    for number, videos, ends in episodes:
        for camera, span in videos.items():
            end = ends.get(camera, span.start_s + span.length / (span.fps or 1))
            if not math.isfinite(span.start_s + end):
                found[number, camera] = ("video_span", f"the list gives it no seconds of {span.path.name}")
            elif span.fps is not None:
                files[camera, span.path].append((span.start_s, end, number, span))
    for (camera, path), spans in files.items():
        spans.sort(key=lambda item: item[:3])
        for number, said in {**_drifting(path, spans), **_overlapping(path, spans)}.items():
            found[number, camera] = said
    return found


def _overlapping(path: Path, spans: list[tuple[float, float, int, VideoSpan]]) -> dict[int, tuple[str, str]]:
    """Episodes whose seconds overlap with those of another; the spans are sorted by their starts."""
    found = {}
    last_end, last = float("-inf"), -1
    for start, end, number, span in spans:
        if last not in (-1, number) and (last_end - start) * (span.fps or 0) > 0.5:
            both = sorted((last, number))
            said = f"episodes {both[0]} and {both[1]} both claim {path.name} from {start:.3f} s on"
            for one in both:
                found.setdefault(one, ("video_overlap", said))
        if end > last_end:
            last_end, last = end, number
    return found


def _drifting(path: Path, spans: list[tuple[float, float, int, VideoSpan]]) -> dict[int, tuple[str, str]]:
    """Episodes whose start is more than a quarter frame off the grid defined by the episodes before it.

    A gap of two or more whole frames between two episodes is taken for an episode that was removed.
    """
    found, drift, expected = {}, 0.0, 0.0
    for start, end, number, span in spans:
        gap = start * (span.fps or 0) - expected
        drift += gap if abs(gap) < 1.5 else gap - round(gap)
        if abs(drift) > NEAR:
            said = f"its start at {start:.4f} s in {path.name} is {abs(drift):.2f} frame off the grid of its frames"
            found[number] = ("timestamps_off", said)
        expected = start * (span.fps or 0) + round((end - start) * (span.fps or 0))
    return found
