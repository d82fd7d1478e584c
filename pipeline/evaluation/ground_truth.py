"""Episodes whose flow is known exactly: the synthetic rigid world, and LIBERO episodes with a file of exact flow."""

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float

from pipeline.evaluation.bodies import Body, BodyMap, PointClasses, local_contrast
from pipeline.evaluation.synthetic_scene import RigidWorld, moving_card
from pipeline.readers import make_reader
from schemas.episode import ActionConvention, BadEpisode, CameraView, Episode, EpisodeRef, RecordedDepth
from schemas.plugins import PluginChoice
from schemas.scene_flow import GRID, HORIZON, SceneFlow, keypoint_grid

VIEW = "main"
"""The rigid world's camera."""


@dataclass(frozen=True)
class ExactEpisode:
    """An episode and the exact flow of some of its windows.

    Attributes:
        keypoints: in pixels, the same for every window.
        windows: (reference frame, exact flow in that frame's camera) in ascending order; ``valid`` only within the
            episode.
        bodies: on which body each keypoint lies; None where nobody knows.
    """

    episode: Episode
    keypoints: Float[np.ndarray, "K 2"]
    windows: tuple[tuple[int, SceneFlow], ...]
    bodies: BodyMap | None = None

    @cached_property
    def classes(self) -> tuple[PointClasses, ...]:
        """Body and texture of the keypoints, for every window."""
        frames = self.episode.views[self.episode.primary].frames
        known = self.bodies
        of_point = [np.full(len(self.keypoints), -1)] * len(self.windows) if known is None else known.of_point
        return tuple(
            PointClasses(known and known.bodies, body, local_contrast(frames[reference], self.keypoints))
            for (reference, _), body in zip(self.windows, of_point, strict=True)
        )

    @property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """Intrinsics of the primary camera; an episode with exact flow always has them."""
        found = self.episode.views[self.episode.primary].intrinsics
        assert found is not None
        return found

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of its image."""
        return self.episode.views[self.episode.primary].size


def rigid_world_episodes(
    size: tuple[int, int] = (256, 256), horizon: int = HORIZON, grid: int = GRID
) -> Iterator[ExactEpisode]:
    """The synthetic world with a static and with a moving camera; depth and poses are exact."""
    for name, moves in (("still_camera", False), ("moving_camera", True)):
        world = moving_card(frames=horizon + 12, size=size, camera_moves=moves)
        yield from_rigid_world(world, name, references=(0, 5, 10), fixed=not moves, horizon=horizon, grid=grid)


def from_rigid_world(
    world: RigidWorld, name: str, references: tuple[int, ...], fixed: bool, horizon: int = HORIZON, grid: int = GRID
) -> ExactEpisode:
    """An episode made of a rigid world."""
    frames, depth = world.frames(), world.depth().astype(np.float32)
    keypoints = keypoint_grid(*world.size, grid)
    view = CameraView(
        name=VIEW,
        read_frames=lambda: frames,
        length=len(world),
        size=world.size,
        intrinsics=world.intrinsics,
        intrinsics_source="the rigid world",
        world_from_camera=world.world_from_camera,
        pose_source="the rigid world",
        fixed=fixed,
        depth=RecordedDepth(lambda: depth, "m", "ray-cast"),
    )
    nothing = np.zeros((len(world), 1), np.float32)
    episode = Episode(
        ref=EpisodeRef("rigid-world", "rigid-world", name, "", ""),
        views={VIEW: view},
        primary=VIEW,
        wrist=None,
        instructions=(),
        fps=20.0,
        state=nothing,
        state_names=("none",),
        actions=nothing,
        action_mask=np.zeros(len(world), bool),
        action_convention=ActionConvention("none", ("none",), "the rigid world is not acted on"),
    )
    windows = tuple((r, _within(world, r, keypoints, horizon)) for r in references)
    bodies = (Body("wall", "static"), Body("card", "object"))
    on_card = tuple(world.on_card(r, keypoints).astype(int) for r in references)
    return ExactEpisode(episode, keypoints, windows, BodyMap(bodies, on_card))


def _within(world: RigidWorld, reference: int, keypoints: np.ndarray, horizon: int) -> SceneFlow:
    """Exact flow, with the steps after the world's end marked as not valid."""
    inside = min(horizon, len(world) - 1 - reference)
    flow = world.flow(reference, keypoints, inside)
    rest = ((0, 0), (0, horizon - inside))
    return SceneFlow(
        np.pad(flow.uvz, (*rest, (0, 0)), mode="edge"), np.pad(flow.visible, rest), np.pad(flow.valid, rest)
    )


def libero_episodes(root: Path) -> Iterator[ExactEpisode | BadEpisode]:
    """LIBERO demos that have ``<file's stem>_<number>_gt.npz`` beside them (layout: ``data/libero/README.md``).

    For an episode that cannot be read, the exception is yielded instead.

    Raises:
        FileNotFoundError: the folder holds no LIBERO file, or none with exact flow beside it.
    """
    reader = make_reader(PluginChoice("libero"))
    found = 0
    for ref in reader.list_episodes(root):
        if not isinstance(ref, EpisodeRef):
            yield BadEpisode(ref.code, str(ref))
            continue
        path = exact_flow_path(ref)
        if path.exists():
            found += 1
            try:
                yield read_exact_flow(reader.read(ref), path)
            except BadEpisode as error:
                yield error
    if not found:
        raise FileNotFoundError(
            f"no *.hdf5 below {root} has exact flow (<file>_<number>_gt.npz) beside it; name another folder with "
            "--input"
        )


def exact_flow_path(ref: EpisodeRef) -> Path:
    """The path of the exact flow of a LIBERO demo, whether or not the file exists."""
    path = Path(ref.path)
    return path.with_name(f"{path.stem}_{ref.episode.removeprefix('demo_')}_gt.npz")


def read_exact_flow(episode: Episode, path: Path) -> ExactEpisode:
    """Pair an episode with its file of exact flow.

    Raises:
        BadEpisode: the file is damaged or belongs to another episode.
    """
    width, height = episode.views[episode.primary].size
    try:
        with np.load(path, allow_pickle=False) as stored:
            references, keypoints = stored["ref"], stored["uv0"].astype(np.float64)
            track = stored["track"].transpose(0, 2, 1, 3).astype(np.float64)
            seen, valid = stored["vis"].transpose(0, 2, 1), stored["valid"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadEpisode("bad_exact_flow", f"{path} is no file of exact flow: {error}") from error
    if (keypoints > [width, height]).any() or (references >= episode.length).any():
        raise BadEpisode("bad_exact_flow", f"{path} does not belong to {episode.ref.name}: other frames or image size")
    windows = []
    for index, reference in enumerate(references):
        inside = reference + np.arange(track.shape[2]) < episode.length
        known = valid[index][:, None] & inside
        windows.append(
            (int(reference), SceneFlow(track[index] / [width, height, 1], seen[index] & known, known)),
        )
    return ExactEpisode(episode, keypoints, tuple(windows))
