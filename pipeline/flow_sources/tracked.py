"""Flow from pictures: a tracker follows points in the image, and depth and cameras lift them to 3D."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from pipeline.flow_sources import EpisodeFlow, Scene
from pipeline.flow_sources._arm_motion import ArmMotion, frames_to_look_at
from pipeline.flow_sources._moving_camera import MovingCameraTester
from pipeline.flow_sources._noise_bounds import for_noise_of
from pipeline.flow_sources._scene import SceneObserver
from pipeline.flow_sources._track_checks import TrackTester, TrustConfig
from pipeline.robots.description import BadDescription, RobotDescription
from pipeline.timing import Stopwatch
from pipeline.trackers import make_tracker
from pipeline.vision.lift import LiftedTracks, lift_tracks
from pipeline.vision.patches import grey_clip
from pipeline.vision.scene_cuts import check_level
from schemas.cameras import Cameras
from schemas.episode import Episode
from schemas.perception import DepthMaps
from schemas.plugins import PluginChoice


@dataclass(frozen=True)
class Config(TrustConfig):
    """The parts, and the thresholds of the track checks.

    Attributes:
        tracker: of ``pipeline.trackers``.
        depth: of ``pipeline.depth``.
        camera: of ``pipeline.cameras``.
        test: whether tracks are checked against depth and each other (``pipeline.flow_sources._track_checks``).
        cut_level: change of the picture from one frame to the next that may be a cut (``pipeline.vision.scene_cuts``);
            None not to look for cuts.
        arm: what tells how the robot moves: its ``tracks``, as of all else, or its recorded ``joints``.
        robot: the file that describes the robot (URDF or MJCF), for the latter.
        touch: metres from a link's surface within which a point lies on it.
    """

    tracker: PluginChoice = PluginChoice("lk")
    depth: PluginChoice = PluginChoice("recorded")
    camera: PluginChoice = PluginChoice("static")
    test: bool = True
    cut_level: float | None = 0.3
    arm: Literal["tracks", "joints"] = "tracks"
    robot: str | None = field(default=None, metadata={"contents": True})
    touch: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.touch <= 0:
            raise ValueError(f"touch must be above 0, found {self.touch}")
        if self.arm == "joints" and (self.robot is None or not Path(self.robot).is_file()):
            raise ValueError(
                f"arm=joints needs robot=FILE, the robot's description (URDF or MJCF), found {self.robot!r}"
            )
        if self.arm != "joints" and self.robot is not None:
            raise ValueError(f"robot={self.robot} has no effect without arm=joints")
        check_level("tracked", self.cut_level)


def build(config: Config) -> "TrackedFlow":
    """The source.

    Raises:
        ValueError: an unknown part, option or value.
    """
    return TrackedFlow(config)


class TrackedFlow:
    """See ``pipeline.flow_sources.FlowSource``."""

    needs_all_pictures = True

    def __init__(self, config: Config):
        self.name = config.tracker.name
        self.tracker = make_tracker(config.tracker)
        self.config = config
        self.robot: RobotDescription | None = None
        if config.robot is not None:  # then arm is joints
            self.name += "+joints"
            try:
                self.robot = RobotDescription(Path(config.robot))
            except BadDescription as error:
                raise ValueError(str(error)) from error
        self.observer = SceneObserver(config.depth, config.camera, config.cut_level, config.depth_noise is None)

    def observe(self, episode: Episode, chunked: bool, watch: Stopwatch) -> Scene:
        """See ``pipeline.flow_sources.FlowSource.observe``."""
        scene = self.observer.observe(episode, chunked, watch)
        if self.robot is None or not chunked:
            return scene
        with watch.stage("test tracks"):  # of all frames, so that a chunk's length decides nothing
            self._arm(self.robot, *self.observer.some(scene, frames_to_look_at(episode.length)), shown=False)
        return replace(scene, shown=True)

    def _arm(
        self, robot: RobotDescription, episode: Episode, depth: DepthMaps, cameras: Cameras, shown: bool
    ) -> ArmMotion:
        match = for_noise_of(depth, self.config).bounds.match
        return ArmMotion(robot, episode, depth, cameras, self.config.touch, match, shown)

    def follow(
        self,
        scene: Scene,
        references: Sequence[int],
        keypoints: Float[np.ndarray, "K 2"],
        horizon: int,
        depth_edge: float,
        watch: Stopwatch,
    ) -> EpisodeFlow:
        """See ``pipeline.flow_sources.FlowSource.follow``."""
        view = scene.episode.views[scene.episode.primary]
        depth, edges, cameras = self.observer.depth_and_cameras(scene, depth_edge, watch)
        arm = None
        if self.robot is not None:
            with watch.stage("test tracks"):
                arm = self._arm(self.robot, scene.episode, depth, cameras, scene.shown)
        with watch.stage("track"):
            tracks = self.tracker.track(view.frames, references, keypoints, horizon)

        with watch.stage("test tracks"):
            tester = None
            if self.config.test:
                kind = MovingCameraTester if cameras.moving else TrackTester
                tester = kind(grey_clip(view.frames), depth.depth, edges, cameras, for_noise_of(depth, self.config))

        def windows() -> Iterator[tuple[int, LiftedTracks]]:
            for track in tracks:
                with watch.stage("lift and evaluate"):
                    lifted = lift_tracks(track, depth, edges, cameras)
                with watch.stage("test tracks"):
                    robot = arm.on(track.reference, lifted) if arm is not None else None
                    if tester is not None:
                        known = () if robot is None else robot.bodies
                        lifted = tester.test(track, lifted, known, robot.point if robot is not None else None)
                    if robot is not None:
                        lifted = robot.put(lifted)
                yield track.reference, lifted

        return EpisodeFlow(windows(), cameras, depth.unit, depth.source, self.name, depth.alignment, depth, depth.noise)
