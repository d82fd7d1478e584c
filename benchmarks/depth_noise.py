"""What flow is worth when depth is estimated frame by frame: flicker and noise, steadied or not, against the rigid
world's exact flow.

The estimator sees the world's depth up to scale and shift, with a scale that flickers by 3% from frame to frame and
smooth noise of a given share of depth at each pixel, new in every frame. One line for the episode aligns it to the
exact depth. Nothing is downloaded.

    python benchmarks/depth_noise.py
"""

from collections.abc import Iterator

import cv2
import numpy as np

from pipeline.depth._monocular import EstimatedDepth, EstimatorConfig
from pipeline.evaluation.ground_truth import from_rigid_world
from pipeline.evaluation.scoring import ScoredWindow, score_episode
from pipeline.evaluation.synthetic_scene import moving_card
from pipeline.flow_sources.tracked import Config, TrackedFlow
from pipeline.recipe import QualityConfig
from pipeline.timing import Stopwatch

FRAMES, SIZE, FLICKER, SMOOTH_PX = 44, 256, 0.03, 6


class NoisyEstimate:
    """See ``pipeline.depth._monocular.InverseDepthModel``."""

    name, metric = "the world's depth with noise", False

    def __init__(self, depth: np.ndarray, noise: float):
        rng = np.random.default_rng(0)
        smooth = np.stack([cv2.GaussianBlur(rng.normal(size=d.shape), (0, 0), SMOOTH_PX) for d in depth])
        seen = depth * (1 + noise * smooth / smooth.std())
        scale = 7 * (1 + rng.normal(0, FLICKER, (len(depth), 1, 1)))
        self.inverse = ((1 / seen + 0.2) / scale).astype(np.float32)

    def inverse_depth(self, frames: np.ndarray) -> np.ndarray:
        """As if the frames had been looked at."""
        return self.inverse.copy()


def rows() -> Iterator[str]:
    """One line of the table for each noise, with and without steadying."""
    world = moving_card(FRAMES, (SIZE, SIZE), camera_moves=False)
    exact, depth = from_rigid_world(world, "still camera", (0, 5, 10), True), world.depth()
    for noise in (0.005, 0.01, 0.02):
        for steady in (False, True):
            source = TrackedFlow(Config())
            source.scene.depth = EstimatedDepth(
                EstimatorConfig(steady=steady, align="recorded"), NoisyEstimate(depth, noise)
            )
            windows = score_episode(exact, source, QualityConfig(), Stopwatch())
            parts = [cell for kind in ("static", "moving") for cell in cells(windows, kind)]
            yield f"| {noise:.1%} | {'yes' if steady else 'no'} | {' | '.join(parts)} |"


def cells(windows: list[ScoredWindow], kind: str) -> tuple[str, str, str]:
    """Share of truly visible points and steps kept, their median error, and the share of them within 2 cm."""
    scores = [(w.scores, getattr(w.scores, kind)) for w in windows]
    seen = np.concatenate([(s.seen & s.known)[which].ravel() for s, which in scores])
    kept = np.concatenate([s.kept[which].ravel() for s, which in scores]) & seen
    error = np.concatenate([s.error[which].ravel() for s, which in scores])[kept]
    return f"{kept.sum() / seen.sum():.0%}", f"{np.median(error) * 100:.2f} cm", f"{(error < 0.02).mean():.0%}"


def main() -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    print("| noise | steadied | static kept | median | within 2 cm | moving kept | median | within 2 cm |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows():
        print(row, flush=True)


if __name__ == "__main__":
    main()
