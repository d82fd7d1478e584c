"""No flow: samples of pictures, language, state and actions alone, for the policy (stage 2), which learns no flow.

No depth is needed and nothing is tracked, so a build runs at the speed of reading and no window is rejected for its
flow. Intrinsics and poses are stored where the dataset gives them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.cameras._intrinsics import known_intrinsics
from pipeline.cameras.recorded import fault_of_poses
from pipeline.flow_sources import EpisodeFlow, Scene
from pipeline.timing import Stopwatch
from pipeline.vision.lift import LiftedTracks
from schemas.cameras import Cameras
from schemas.episode import CameraView, Episode
from schemas.scene_flow import no_flow
from schemas.triplet import NONE, UNKNOWN_CAMERA

MEASURES = False


@dataclass(frozen=True)
class Config:
    """No options."""


def build(config: Config) -> "WithoutFlow":
    """The source."""
    return WithoutFlow()


class WithoutFlow:
    """See ``pipeline.flow_sources.FlowSource``."""

    needs_all_pictures = False

    def observe(self, episode: Episode, chunked: bool, watch: Stopwatch) -> Scene:
        """See ``pipeline.flow_sources.FlowSource.observe``: nothing is needed."""
        return Scene(episode)

    def follow(
        self,
        scene: Scene,
        references: Sequence[int],
        keypoints: Float[np.ndarray, "K 2"],
        horizon: int,
        depth_edge: float,
        watch: Stopwatch,
    ) -> EpisodeFlow:
        """See ``pipeline.flow_sources.FlowSource.follow``: every window has no keypoint and no step."""
        flow = no_flow()
        nothing = np.zeros(flow.valid.shape, bool)
        windows = ((reference, LiftedTracks(flow, nothing, nothing)) for reference in references)
        view = scene.episode.views[scene.episode.primary]
        return EpisodeFlow(windows, recorded_cameras(view), NONE, NONE, NONE)


def recorded_cameras(view: CameraView) -> Cameras:
    """The camera as far as the dataset gives it: zero intrinsics and the identity as pose where it does not, or gives
    numbers that no camera has. A policy needs neither, so its episodes are not refused for them.
    """
    intrinsics, source = known_intrinsics(view, None) or (np.zeros((3, 3)), UNKNOWN_CAMERA)
    if not np.isfinite(intrinsics).all():
        intrinsics, source = np.zeros((3, 3)), UNKNOWN_CAMERA
    recorded = view.world_from_camera
    if recorded is not None and fault_of_poses(recorded, view.length) is not None:
        recorded = None
    poses = np.eye(4)[None] if recorded is None else np.asarray(recorded)
    return Cameras(
        intrinsics=intrinsics,
        world_from_camera=np.array(np.broadcast_to(poses, (view.length, 4, 4))),
        size=view.size,
        moving=len(poses) > 1,
        intrinsics_source=source,
        pose_source=UNKNOWN_CAMERA if recorded is None else view.pose_source,
    )
