"""Exact flow by replaying the simulator's recorded states: no tracking and no estimated depth; hidden points have exact
flow too.

Needs the extra ``sim`` and the meshes that the recorded model names (``docs/simulator.md``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.flow_sources import EpisodeFlow, Scene
from pipeline.simulator.assets import AssetOptions
from pipeline.simulator.model import load_model
from pipeline.simulator.rendering import SceneCamera
from pipeline.simulator.replay import Replay, exact_flow
from pipeline.timing import Stopwatch
from pipeline.vision.lift import LiftedTracks
from schemas.cameras import Cameras
from schemas.episode import BadEpisode, Episode
from schemas.perception import DepthMaps

THREAD_SAFE = False  # a renderer belongs to one thread


@dataclass(frozen=True)
class Config(AssetOptions):
    """Where the files are that recorded models name."""


def build(config: Config) -> "SimulatedFlow":
    """The source."""
    return SimulatedFlow(config)


class SimulatedFlow:
    """See ``pipeline.flow_sources.FlowSource``."""

    needs_all_pictures = False

    def __init__(self, config: Config):
        self.folders = config.asset_folders("the flow source simulator")
        self._model: tuple[str, Any] | None = None
        self._eyes: dict[tuple[str, tuple[int, int]], SceneCamera] = {}

    def observe(self, episode: Episode, chunked: bool, watch: Stopwatch) -> Scene:
        """See ``pipeline.flow_sources.FlowSource.observe``: each chunk is replayed by itself."""
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
        """See ``pipeline.flow_sources.FlowSource.follow``."""
        episode = scene.episode
        view = episode.views[episode.primary]
        recorded = view.simulation
        if recorded is None:
            raise BadEpisode(
                "no_simulation",
                f"{episode.ref.name} has no recorded simulator states; --flow tracked follows points in its pictures",
            )
        with watch.stage("replay"):
            xml, states = recorded.read()
            replay = Replay(episode.ref.name, self._load(episode.ref.name, xml), states, recorded.camera, view.size)
            eye = self._eye(replay.model, recorded.camera, view.size)
        with watch.stage("render"):
            seen = replay.see(eye)

        def windows() -> Iterator[tuple[int, LiftedTracks]]:
            for reference in references:
                with watch.stage("lift and evaluate"):
                    flow = exact_flow(replay.motion, seen, reference, keypoints, horizon)
                    nothing = np.zeros(flow.valid.shape, bool)
                yield reference, LiftedTracks(flow, nothing, nothing, exact=True)

        motion = replay.motion
        cameras = Cameras(
            intrinsics=motion.intrinsics,
            world_from_camera=motion.world_from_camera,
            size=view.size,
            moving=bool(np.abs(motion.world_from_camera - motion.world_from_camera[:1]).max() > 1e-9),
            intrinsics_source="the simulator",
            pose_source="the simulator",
        )
        maps = DepthMaps(seen.depth, "m", "simulator replay")
        return EpisodeFlow(windows(), cameras, "m", maps.source, "simulator", depth=maps)

    def _load(self, episode: str, xml: str) -> Any:
        """The model; cached for the next episode, which usually has the same one."""
        if self._model is None or self._model[0] != xml:
            self.close()
            self._model = xml, load_model(episode, xml, self.folders)
        return self._model[1]

    def _eye(self, model: Any, camera: str, size: tuple[int, int]) -> SceneCamera:
        """The renderer of one of the model's cameras, cached with the model."""
        if (camera, size) not in self._eyes:
            self._eyes[camera, size] = SceneCamera(model, camera, size)
        return self._eyes[camera, size]

    def close(self) -> None:
        """Free model and renderers."""
        for eye in self._eyes.values():
            eye.close()
        self._eyes.clear()
        self._model = None
