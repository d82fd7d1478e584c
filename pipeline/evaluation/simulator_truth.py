"""Episodes of LIBERO and robosuite rendered again by the simulator, at any size, with exact depth and exact flow."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from pipeline.episodes.camera_choice import ALL, PRIMARY, chosen_cameras
from pipeline.evaluation.ground_truth import ExactEpisode
from pipeline.evaluation.simulator_bodies import map_bodies
from pipeline.readers import make_reader
from pipeline.simulator.assets import AssetOptions
from pipeline.simulator.model import AssetFolders, load_model
from pipeline.simulator.rendering import SceneCamera
from pipeline.simulator.replay import Replay, exact_flow
from schemas.episode import BadEpisode, Episode, EpisodeRef, RecordedDepth
from schemas.plugins import PluginChoice
from schemas.scene_flow import GRID, HORIZON, keypoint_grid

OPTIONS = "--replay.robosuite DIR and --replay.libero-assets DIR"


@dataclass(frozen=True)
class ReplayConfig(AssetOptions):
    """How the simulator renders episodes again (``docs/simulator.md``).

    Attributes:
        size: sides of the square image in px.
        stride: frames from one window to the next; only windows of full length are taken.
        camera: the dataset's name of the camera that is drawn, such as LIBERO's eye_in_hand on the wrist.
    """

    section: ClassVar[str] = "replay"

    size: int = 256
    stride: int = 8
    camera: str = PRIMARY

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 32:
            raise ValueError(f"replay.size must be 32 or more, found {self.size}")
        if self.stride < 1:
            raise ValueError(f"replay.stride must be 1 or more, found {self.stride}")
        if self.camera == ALL:
            raise ValueError("replay.camera names one camera, found all")


def replayed_episodes(
    root: Path, dataset: PluginChoice, config: ReplayConfig, horizon: int = HORIZON, grid: int = GRID
) -> Iterator[ExactEpisode | BadEpisode]:
    """Every demo below a folder; for one that has no simulator states or cannot be read, the exception is yielded
    instead.

    Args:
        root: of the HDF5 files.
        dataset: their reader, ``libero`` or ``robosuite``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown reader, option or value.
    """
    folders = replace(config.asset_folders("the replay"), options=OPTIONS)
    reader = make_reader(dataset)
    for ref in reader.list_episodes(root):
        if not isinstance(ref, EpisodeRef):
            yield BadEpisode(ref.code, str(ref))
            continue
        try:
            episode = reader.read(ref)
            (camera,) = chosen_cameras(episode, (config.camera,))
            yield replay_episode(replace(episode, primary=camera), folders, config.size, config.stride, horizon, grid)
        except BadEpisode as error:
            yield error


def replay_episode(
    episode: Episode, folders: AssetFolders, size: int, stride: int, horizon: int = HORIZON, grid: int = GRID
) -> ExactEpisode:
    """One episode with its primary view rendered again.

    Raises:
        BadEpisode: it has no states, is too short, or cannot be replayed.
    """
    view = episode.views[episode.primary]
    recorded, name = view.simulation, episode.ref.name
    if recorded is None:
        raise BadEpisode("no_simulation", f"{name} has no recorded simulator states")
    xml, states = recorded.read()
    model = load_model(name, xml, folders)
    replay = Replay(name, model, states, recorded.camera, (size, size))
    references = range(0, int(replay.known.sum()) - horizon, stride)
    if not references:
        raise BadEpisode("too_short", f"{name} has no window of {horizon} steps")
    eye = SceneCamera(model, recorded.camera, (size, size))
    seen = replay.see(eye)
    eye.close()
    eye = SceneCamera(model, recorded.camera, (size, size), smooth=True)
    frames = replay.pictures(eye)
    eye.close()
    keypoints, motion = keypoint_grid(size, size, grid), replay.motion
    rendered = replace(
        view,
        read_frames=lambda: frames,
        size=(size, size),
        intrinsics=motion.intrinsics,
        intrinsics_source="the simulator",
        world_from_camera=motion.world_from_camera,
        pose_source="the simulator",
        depth=RecordedDepth(lambda: seen.depth, "m", "rendered without multisampling"),
    )
    windows = tuple((r, exact_flow(motion, seen, r, keypoints, horizon)) for r in references)
    bodies = map_bodies(model, seen, references, keypoints)
    return ExactEpisode(replace(episode, views={episode.primary: rendered}, wrist=None), keypoints, windows, bodies)
