"""The dataset's own frames for a page: videos of samples, and pictures of what was rejected."""

from collections.abc import Iterable

import numpy as np

from pipeline.inspection.rejections import RejectedWindow, Rejections
from pipeline.inspection.sample import Found
from pipeline.inspection.source_frames import NoWayBack, WayBack, frame_offsets, small_jpeg
from pipeline.inspection_page.page import RejectedPicture
from schemas.manifest import Manifest


def videos_of(
    samples: Iterable[Found], way: WayBack, manifest: Manifest | None
) -> tuple[dict[str, list[bytes]], set[str]]:
    """Frames of steps 0..T by the samples' keys, as JPEG, and why there are none for some."""
    videos: dict[str, list[bytes]] = {}
    faults: set[str] = set()
    for found in sorted(samples, key=lambda f: f.triplet.key):  # an episode's samples together
        t = found.triplet
        if t.key in videos:
            continue
        try:
            frames = way.frames(t.source, t.episode, frame_offsets(t), manifest)
        except NoWayBack as error:
            faults.add(f"No video: {error}.")
            continue
        encoded: dict[int, bytes] = {}  # after the episode's end the same frame comes again and again
        videos[t.key] = [encoded.get(id(f)) or encoded.setdefault(id(f), small_jpeg(f)) for f in frames]
    return videos, faults


def pictures_of(
    rejections: Rejections, way: WayBack, manifest: Manifest | None, steps: int
) -> tuple[list[RejectedPicture], set[str]]:
    """First and last frame of rejected windows, in the order of reasons, and why there are none for some."""
    windows = [w for reason, _ in rejections.windows.most_common() for w in rejections.examples.get(reason, [])]
    found: dict[RejectedWindow, RejectedPicture] = {}
    faults: set[str] = set()
    for window in sorted(windows, key=lambda w: w.digest):
        try:
            first, last = way.frames(window.source, window.digest, np.array([0, steps]), manifest)
        except NoWayBack as error:
            faults.add(f"No picture: {error}.")
            continue
        found[window] = RejectedPicture(window, (small_jpeg(first), small_jpeg(last)))
    return [found[w] for w in windows if w in found], faults
