"""Pictures of an episode's video side by side, for a page.

    python benchmarks/episode_strip.py VIDEO [VIDEO ...] --output docs/evidence-episode.jpg [--frames 8]

A row for each video of ``lamp-policy evaluate``, with frames that are spread evenly from its first to its last.
"""

import argparse
from pathlib import Path

import av
import cv2
import numpy as np
from machine import at_least_one

from schemas.files import write_whole

WIDTH = 150
"""Of a frame, px."""


def strip_of(video: Path, frames: int) -> np.ndarray:
    """Frames of a video, RGB, side by side."""
    with av.open(video) as container:
        every = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    chosen = [every[place] for place in np.linspace(0, len(every) - 1, frames).astype(int)]
    return np.hstack([cv2.resize(f, (WIDTH, WIDTH * f.shape[0] // f.shape[1]), interpolation=cv2.INTER_AREA)
                      for f in chosen])  # fmt: skip


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--frames", type=at_least_one, default=8)
    args = parser.parse_args()
    rows = np.vstack([strip_of(video, args.frames) for video in args.videos])
    done, data = cv2.imencode(args.output.suffix, rows[..., ::-1])
    assert done
    write_whole(args.output, data.tobytes())


if __name__ == "__main__":
    main()
