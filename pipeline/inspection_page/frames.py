"""The dataset's own frames for a page: videos of samples, and pictures and flow of rejected windows."""

from collections.abc import Iterable
from itertools import groupby

import numpy as np

from pipeline.inspection.rejected_flow import rejected_flow
from pipeline.inspection.rejections import RejectedWindow, Rejections
from pipeline.inspection.sample import Found
from pipeline.inspection.source_frames import NoWayBack, WayBack, frame_offsets, small_jpeg
from pipeline.inspection_page.contents import RejectedPicture
from schemas.episode import BadEpisode
from schemas.manifest import Manifest
from schemas.triplet import Triplet


def videos_of(
    samples: Iterable[Found], way: WayBack, manifest: Manifest | None
) -> tuple[dict[str, list[bytes]], set[str]]:
    """Frames of steps 0..T by the samples' keys, as JPEG, and the reasons for samples without frames."""
    videos: dict[str, list[bytes]] = {}
    faults: set[str] = set()
    for found in sorted(samples, key=lambda f: f.triplet.key):  # samples of an episode follow each other
        t = found.triplet
        if t.key in videos or not t.has_flow:
            continue
        try:
            frames = way.frames(t.source, t.episode, frame_offsets(t), manifest)
        except NoWayBack as error:
            faults.add(f"No video: {error}.")
            continue
        encoded: dict[int, bytes] = {}  # after the episode's end the same frame repeats
        videos[t.key] = [encoded.get(id(f)) or encoded.setdefault(id(f), small_jpeg(f)) for f in frames]
    return videos, faults


def pictures_of(
    rejections: Rejections, way: WayBack, manifest: Manifest | None, steps: int
) -> tuple[list[RejectedPicture], set[str]]:
    """Frames and flow of rejected windows, in the order of reasons, and why they are missing for some."""
    windows = [w for reason, _ in rejections.windows.most_common() for w in rejections.examples.get(reason, [])]
    found: dict[RejectedWindow, RejectedPicture] = {}
    faults: set[str] = set()
    for _, group in groupby(sorted(windows, key=lambda w: w.digest), key=lambda w: w.digest):
        of_episode = list(group)
        flows = _flows(of_episode, way, manifest, faults)
        for window in of_episode:
            try:
                first, last = way.frames(window.source, window.digest, np.array([0, steps]), manifest)
            except NoWayBack as error:
                faults.add(f"No picture: {error}.")
                continue
            found[window] = RejectedPicture(window, (small_jpeg(first), small_jpeg(last)), flows.get(window))
    return [found[w] for w in windows if w in found], faults


def _flows(
    windows: list[RejectedWindow], way: WayBack, manifest: Manifest | None, faults: set[str]
) -> dict[RejectedWindow, Triplet]:
    """The flow of one episode's rejected windows; if it cannot be computed, the reason is added to the faults."""
    if manifest is None:
        return {}
    try:
        episode = way.episode(windows[0].source, windows[0].digest, manifest)
        return rejected_flow(episode, windows, manifest.recipe)
    except NoWayBack:
        return {}  # already reported for the frames
    except (BadEpisode, ValueError, OSError) as error:
        faults.add(f"No flow of rejected windows: {error}.")
        return {}
