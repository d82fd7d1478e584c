"""What flow is worth when depth is noisy, against exact flow: noise measured and steadied (the default), or a tolerance
fixed at that of exact depth.

``recorded``: metres, with new noise at every pixel of every frame, and a factor on every frame (flicker), both of the
given deviation. ``relative``: an estimate up to scale and shift, whose scale flickers by 3% from frame to frame, with
smooth noise that is new in every frame; one line for the episode aligns it to the exact depth.

    python benchmarks/depth_noise.py [--frames 96]
    python benchmarks/depth_noise.py --replay FOLDER --robosuite DIR --libero-assets DIR  # LIBERO
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.depth._monocular import EstimatedDepth, EstimatorConfig
from pipeline.evaluation.ground_truth import ExactEpisode, from_rigid_world
from pipeline.evaluation.run import exact_episodes
from pipeline.evaluation.scoring import ScoredWindow, join, score_episode
from pipeline.evaluation.simulator_truth import ReplayConfig
from pipeline.evaluation.synthetic_scene import moving_card
from pipeline.flow_sources.tracked import Config, TrackedFlow
from pipeline.recipe import QualityConfig
from pipeline.timing import Stopwatch
from schemas.episode import RecordedDepth

SIZE, FLICKER, SMOOTH_PX = 192, 0.03, 6
NOISES = (0.0, 0.005, 0.01, 0.02, 0.05)
STRIDE = 24


class NoisyEstimate:
    """See ``pipeline.depth._monocular.InverseDepthModel``. Frames are asked for in order."""

    name, metric = "the world's depth with noise", False

    def __init__(self, depth: np.ndarray, noise: float):
        self.depth, self.noise, self.rng, self.done = depth, noise, np.random.default_rng(0), 0

    def inverse_depth(self, frames: np.ndarray) -> np.ndarray:
        """As if the frames had been looked at."""
        depth = self.depth[self.done : self.done + len(frames)]
        self.done += len(frames)
        smooth = np.stack([cv2.GaussianBlur(self.rng.normal(size=d.shape), (0, 0), SMOOTH_PX) for d in depth])
        seen = depth * (1 + self.noise * smooth / smooth.std())
        scale = 7 * (1 + self.rng.normal(0, FLICKER, (len(depth), 1, 1)))
        return ((1 / seen + 0.2) / scale).astype(np.float32)


def with_noise(exact: ExactEpisode, noise: float) -> ExactEpisode:
    """The episode with noise in its recorded depth."""
    view = exact.episode.views[exact.episode.primary]
    assert view.depth is not None
    rng, depth = np.random.default_rng(0), view.depth.read()
    factors = 1 + noise * rng.standard_normal((len(depth), 1, 1))
    noisy = np.stack([d * f * (1 + noise * rng.standard_normal(d.shape)) for d, f in zip(depth, factors, strict=True)])
    found = RecordedDepth(lambda: noisy.astype(np.float32), "m", "with noise")
    return replace(exact, episode=replace(exact.episode, views={view.name: replace(view, depth=found)}))


def score(exact: ExactEpisode, noise: float, relative: bool, fixed: bool) -> list[ScoredWindow]:
    """The windows of an episode, with its depth made noisy."""
    source = TrackedFlow(Config(depth_noise=0.005 if fixed else None))
    view = exact.episode.views[exact.episode.primary]
    assert view.depth is not None
    if relative:
        model = NoisyEstimate(view.depth.read(), noise)
        source.observer.depth = EstimatedDepth(EstimatorConfig(align="recorded"), model)
    else:
        exact = with_noise(exact, noise)
    return score_episode(exact, source, QualityConfig(), Stopwatch())


def rows(episodes: Sequence[ExactEpisode]) -> Iterator[str]:
    """One line of the table for each kind of depth and noise."""
    for relative in (False, True):
        for noise in NOISES:
            for fixed in (False, True):
                windows = [w for exact in episodes for w in score(exact, noise, relative, fixed)]
                names = ["relative" if relative else "recorded", f"{noise:.1%}", "fixed" if fixed else "measured"]
                yield f"| {' | '.join([*names, *cells(windows)])} |"


def cells(windows: list[ScoredWindow]) -> Iterator[str]:
    """Of truly visible points and steps: the share kept, and of those the share within bounds, and the mean error."""
    s = join([w.scores for w in windows])
    for which, bounds in ((s.static, (0.005, 0.01)), (s.moving, (0.02,))):
        seen = s.seen & s.known & which[:, None]
        error = s.error[seen & s.kept]
        yield f"{len(error) / max(seen.sum(), 1):.1%}"
        for bound in bounds:
            yield f"{(error < bound).mean():.1%}"
        yield f"{error.mean() * 100:.2f} cm"
    moved = np.where(s.kept, s.label_travelled, 0).max(axis=1) > 0.01
    yield f"{np.count_nonzero(moved & s.static) / len(windows):.1f}"


def main() -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--replay", type=Path, help="folder of LIBERO's HDF5 files")
    parser.add_argument("--robosuite", type=Path)
    parser.add_argument("--libero-assets", type=Path)
    args = parser.parse_args()
    if args.replay:
        replayed = exact_episodes("simulator", args.replay, None, ReplayConfig(args.robosuite, args.libero_assets))
        episodes = [exact for exact in replayed if isinstance(exact, ExactEpisode)]
    else:
        world = moving_card(args.frames, (SIZE, SIZE), camera_moves=False)
        episodes = [from_rigid_world(world, "still camera", tuple(range(0, args.frames - 33, STRIDE)), True)]
    print(
        "| depth | noise | tolerance | static kept | within 5 mm | within 1 cm | mean | moving kept | within 2 cm | "
        "mean | false movers |"
    )
    print("|---" * 11 + "|")
    for row in rows(episodes):
        print(row, flush=True)


if __name__ == "__main__":
    main()
