"""Flow from depth alone: small patches of each frame's point cloud are registered with the next frame's cloud, and
points move with their patch.

An alternative source of labels, for the ablation; it uses no pictures. For its limits see
``pipeline.flow_sources._patch_registration``. Needs the extra ``icp``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from jaxtyping import Bool, Float

from pipeline.flow_sources import EpisodeFlow, Scene
from pipeline.flow_sources._noise_bounds import tolerated
from pipeline.flow_sources._patch_registration import (
    Cloud,
    PatchConfig,
    PatchMotions,
    carry,
    cloud_of,
    register,
    registration_library,
    unchanged,
)
from pipeline.flow_sources._scene import SceneObserver
from pipeline.timing import Stopwatch
from pipeline.vision.lift import LiftedTracks
from pipeline.vision.scene_cuts import check_level
from schemas.cameras import Cameras, invert_pose, lift, project, transform
from schemas.episode import Episode
from schemas.plugins import PluginChoice
from schemas.scene_flow import SceneFlow

LIBRARIES = ("small_gicp",)


@dataclass(frozen=True)
class Config(PatchConfig):
    """The parts, and how clouds are compared.

    Attributes:
        depth: of ``pipeline.depth``.
        camera: of ``pipeline.cameras``.
        there: largest difference in metres between measured and expected depth at which a point counts as seen.
        cut_level: change of the picture from one frame to the next that may be a cut (``pipeline.vision.scene_cuts``);
            None not to look for cuts.
    """

    depth: PluginChoice = PluginChoice("recorded")
    camera: PluginChoice = PluginChoice("static")
    there: float = 0.01
    cut_level: float | None = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_level("icp", self.cut_level)
        if not self.there > 0:
            raise ValueError(f"icp.there must be above 0, found {self.there:g}")


def check(config: Config) -> None:
    """Whether the library is installed.

    Raises:
        MissingDependency: it is not.
    """
    registration_library()


def build(config: Config) -> "RegisteredFlow":
    """The source.

    Raises:
        MissingDependency: the library is not installed, or a part lacks something.
        ValueError: an unknown part, option or value.
    """
    registration_library()
    return RegisteredFlow(config)


class RegisteredFlow:
    """See ``pipeline.flow_sources.FlowSource``."""

    needs_all_pictures = True

    def __init__(self, config: Config):
        self.config = config
        self.observer = SceneObserver(config.depth, config.camera, config.cut_level, config.depth_noise is None)

    def observe(self, episode: Episode, chunked: bool, watch: Stopwatch) -> Scene:
        """See ``pipeline.flow_sources.FlowSource.observe``."""
        return self.observer.observe(episode, chunked, watch)

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
        depth, edges, cameras = self.observer.depth_and_cameras(scene, depth_edge, watch)
        noise = tolerated(depth) if self.config.depth_noise is None else self.config.depth_noise
        clip = _Clip(depth.depth, edges, cameras, replace(self.config, depth_noise=noise))

        def windows() -> Iterator[tuple[int, LiftedTracks]]:
            for reference in references:
                with watch.stage("register clouds"):
                    lifted = clip.window(reference, keypoints, horizon)
                yield reference, lifted

        return EpisodeFlow(windows(), cameras, depth.unit, depth.source, "icp", depth.alignment, depth, depth.noise)


class _Clip:
    """The clouds of a clip; each is registered with the next only once, for all windows."""

    def __init__(
        self, depth: Float[np.ndarray, "T H W"], edges: Bool[np.ndarray, "T H W"], cameras: Cameras, config: Config
    ):
        self.depth, self.edges, self.cameras, self.config = depth, edges, cameras, config
        self.motions = cache(self._motions)
        self._last: tuple[int, Cloud] | None = None

    def window(self, reference: int, keypoints: Float[np.ndarray, "K 2"], horizon: int) -> LiftedTracks:
        """Points carried from frame to frame. A point whose patch could not be registered is lost for the rest of the
        window; a hidden point keeps its position.
        """
        world = self._set(reference, keypoints)
        started = np.asarray(np.isfinite(world).all(axis=1))
        world = np.where(started[:, None], world, 0)
        count, followed = len(keypoints), started.copy()
        seen = np.zeros((count, horizon + 1), bool)
        path = np.repeat(world[:, None], horizon + 1, axis=1)
        seen[:, 0] = started
        for step in range(1, min(horizon, len(self.depth) - 1 - reference) + 1):
            visible = seen[:, step - 1]
            moved, known = carry(world, self.motions(reference + step - 1))
            # A hidden point must not move with what hides it.
            world = np.where((visible & known).reshape(-1, 1), moved, world)
            followed &= known | ~visible
            seen[:, step] = followed & self._there(world, reference + step)
            path[:, step:] = world[:, None]
        return self._lifted(path, seen, started, reference)

    def _set(self, frame: int, keypoints: Float[np.ndarray, "K 2"]) -> Float[np.ndarray, "K 3"]:
        """Keypoints in the world; NaN without depth."""
        column, row = np.floor(keypoints).astype(int).T
        uvz = np.column_stack([keypoints, self.depth[frame, row, column]]).astype(np.float64)
        return transform(self.cameras.world_from_camera[frame], lift(uvz, self.cameras.intrinsics))

    def _there(self, world: Float[np.ndarray, "K 3"], frame: int) -> Bool[np.ndarray, " K"]:
        """Whether points lie in the picture and on the surface that is seen there."""
        height, width = self.depth.shape[1:]
        own = project(transform(invert_pose(self.cameras.world_from_camera[frame]), world), self.cameras.intrinsics)
        with np.errstate(invalid="ignore"):
            inside = np.asarray(((own[:, :2] >= 0) & (own[:, :2] < [width, height])).all(axis=1))
            column, row = np.floor(np.where(inside[:, None], own[:, :2], 0)).astype(int).T
            return inside & (np.abs(self.depth[frame, row, column] - own[:, 2]) < self.config.there)

    def _lifted(
        self,
        path: Float[np.ndarray, "K S 3"],
        seen: Bool[np.ndarray, "K S"],
        started: Bool[np.ndarray, " K"],
        reference: int,
    ) -> LiftedTracks:
        """World positions transformed to the reference camera."""
        pose = invert_pose(self.cameras.world_from_camera[reference])
        there = project(transform(pose, path), self.cameras.intrinsics)
        valid = seen & np.isfinite(there).all(axis=-1)
        uvz = np.where(valid[..., None], there, 0) / [*self.cameras.size, 1]
        hole = np.zeros_like(seen)
        hole[:, 0] = ~started
        visible = seen.copy()
        visible[:, 0] = True
        return LiftedTracks(SceneFlow(uvz, visible, valid), hole, np.zeros_like(seen))

    def _cloud(self, frame: int) -> Cloud:
        """The cloud of a frame. The last one is cached, because each is used in two pairs."""
        if self._last is None or self._last[0] != frame:
            made = cloud_of(
                self.depth[frame],
                self.edges[frame],
                self.cameras.intrinsics,
                self.cameras.world_from_camera[frame],
                self.config,
                seed=frame,
            )
            self._last = frame, made
        return self._last[1]

    def _motions(self, frame: int) -> PatchMotions:
        before = self._cloud(frame)
        pose = self.cameras.world_from_camera[frame + 1]
        stayed = unchanged(before.points, self.depth[frame + 1], self.cameras.intrinsics, pose, self.config)
        return register(before, stayed, self._cloud(frame + 1), self.config)
