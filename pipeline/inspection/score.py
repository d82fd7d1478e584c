"""The reliability of a sample's flow as one number, which ranks samples from worst to best."""

from dataclasses import dataclass

from pipeline.inspection.flow_statistics import MeasuredFlow
from schemas.scene_flow import PointFlag, flag_names
from schemas.triplet import Triplet

DOUBTS = (PointFlag.DEPTH_HOLE, PointFlag.DEPTH_EDGE, PointFlag.JUMP)
SCORE_MEANS = (
    "share of keypoints and steps within the episode that are valid, times the share of keypoints without a depth "
    "hole, "
    "a depth edge or a jump"
)


@dataclass(frozen=True)
class Score:
    """The score of one sample.

    Attributes:
        value: 0 (nothing is reliable) to 1; see ``SCORE_MEANS``.
        valid: valid share of keypoints and steps within the episode.
        flagged: share of keypoints by flag, for flags that mark doubt or explain it.
    """

    value: float
    valid: float
    flagged: dict[str, float]


def score_of(t: Triplet, measured: MeasuredFlow) -> Score:
    """Compute the score of a sample."""
    valid = float(t.flow.valid[:, measured.inside].mean())
    doubtful = float((t.point_flags & sum(DOUBTS) > 0).mean())
    points = len(t.point_flags)
    shares = {name: count / points for name, count in flag_names(t.point_flags).items() if name != "static" and count}
    return Score(value=valid * (1 - doubtful), valid=valid, flagged=shares)
