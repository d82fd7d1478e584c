"""DROID's improved camera calibrations, published apart from the episodes as JSON files keyed by episode.

* ``episode_id_to_path.json``: episode id -> ``lab/outcome/date/time``, used to find the id of an RLDS episode.
* ``camera_serials.json``: id -> ``ext1_cam_serial``, ``ext2_cam_serial``, ``wrist_cam_serial``.
* ``intrinsics.json``: id -> serial -> **fx, cx, fy, cy** at 1280 x 720. Read as fx, fy, cx, cy the values look
  plausible but are wrong.
* ``cam2base_extrinsics.json``: id -> serial -> x, y, z and Euler angles "xyz" of the camera in the robot's base, OpenCV
  axes.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.readers._pose_check import intrinsics_fault, mounted_on, pose_fault
from schemas.episode import CameraView

PATHS, SERIALS, INTRINSICS, POSES = (
    "episode_id_to_path.json",
    "camera_serials.json",
    "intrinsics.json",
    "cam2base_extrinsics.json",
)
REQUIRED = (PATHS, SERIALS, INTRINSICS)
RECORDED_SIZE = (1280, 720)
SERIAL_OF = {
    "exterior_image_1_left": "ext1_cam_serial",
    "exterior_image_2_left": "ext2_cam_serial",
    "wrist_image_left": "wrist_cam_serial",
}


class BadCalibration(ValueError):
    """A calibration file cannot be used; the message names it."""


@dataclass(frozen=True)
class CameraCalibration:
    """The calibration of one camera in one episode.

    Attributes:
        intrinsics: at the requested resolution.
        base_from_camera: pose in the robot's base, if there is one.
    """

    intrinsics: Float[np.ndarray, "3 3"]
    base_from_camera: Float[np.ndarray, "4 4"] | None


def calibration_files(root: Path) -> list[Path]:
    """The calibration files in a dataset's folder or its folder ``calibration``; empty where there are none."""
    for folder in (root, root / "calibration"):
        files = [folder / name for name in (*REQUIRED, POSES) if (folder / name).is_file()]
        if (folder / INTRINSICS).is_file():
            return files
    return []


def calibration_fingerprint(root: Path) -> str:
    """A fingerprint that changes when a calibration file changes; empty if there are no files."""
    return "".join(f"-{p.stat().st_size}-{p.stat().st_mtime_ns}" for p in calibration_files(root))


@lru_cache(maxsize=2)
def read_calibration(root: Path, fingerprint: str) -> "Calibration | None":
    """All calibrations of a dataset's folder, read once per process; None if there are no files.

    Raises:
        BadCalibration: a file is missing, is not JSON, or has another layout.
    """
    files = {path.name: path for path in calibration_files(root)}
    if not files:
        return None
    missing = [name for name in REQUIRED if name not in files]
    if missing:
        raise BadCalibration(f"{files[INTRINSICS].parent} has {INTRINSICS} and lacks {', '.join(missing)}")
    tables: dict[str, dict[str, Any]] = {POSES: {}}
    for name, path in files.items():
        try:
            tables[name] = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise BadCalibration(f"{path} cannot be read as JSON: {error}") from error
        if not isinstance(tables[name], dict):
            raise BadCalibration(f"{path} must map episode ids to calibrations, found a {type(tables[name]).__name__}")
    return Calibration(tables)


class Calibration:
    """The four tables."""

    def __init__(self, tables: dict[str, dict[str, Any]]):
        self._tables = tables
        self._id_of = {str(path).strip("/"): episode for episode, path in tables[PATHS].items()}

    def camera(self, episode_path: str, camera: str, size: tuple[int, int]) -> CameraCalibration | None:
        """A camera's calibration, or None when the files do not have it.

        Args:
            episode_path: ``lab/outcome/date/time``.
            camera: its name in the RLDS files.
            size: (width, height) of the pictures it is for; scaled from 1280 x 720.

        Raises:
            BadCalibration: an entry does not have the documented layout.
        """
        episode = self._id_of.get(episode_path, "")
        return self.camera_of(episode, str(self._tables[SERIALS].get(episode, {}).get(SERIAL_OF[camera], "")), size)

    def camera_of(self, episode: str, serial: str, size: tuple[int, int]) -> CameraCalibration | None:
        """A camera's calibration by its episode's id and its serial number; see ``camera``."""
        entry = self._tables[INTRINSICS].get(episode, {}).get(serial)
        if entry is None:
            return None
        pose = self._tables[POSES].get(episode, {}).get(serial)
        try:
            intrinsics = intrinsics_of_entry(entry, size)
            return CameraCalibration(intrinsics, None if pose is None else pose_of_entry(pose))
        except (TypeError, ValueError, KeyError) as error:
            raise BadCalibration(
                f"the calibration of {episode}, camera {serial}, has another layout: {error}"
            ) from error


def calibrated(
    view: CameraView,
    find: Callable[[], CameraCalibration | None],
    tool_xyz: Float[np.ndarray, "T 3"],
    recorded: Float[np.ndarray, "P 4 4"] | None = None,
) -> tuple[CameraView, str | None]:
    """The view with the intrinsics and poses that pass their checks, and notes on what was refused.

    Args:
        find: looks the camera up in the calibration files.
        tool_xyz: the hand in the robot's base, metres.
        recorded: poses stored with the episode. They are noisy, so they are used only if the files have no pose that
            passes the checks.
    """
    try:
        found = find()
    except BadCalibration as error:
        return view, f"refused: {error}"
    if found is None:
        return view, "none for this episode"
    fault = intrinsics_fault(found.intrinsics, view.size)
    if fault is not None:
        return view, f"intrinsics and pose refused: {fault}"
    view = replace(view, intrinsics=found.intrinsics, intrinsics_source="calibration file")
    own = found.base_from_camera[None] if found.base_from_camera is not None and view.fixed else None
    faults = []
    for poses, source in ((own, "calibration file"), (recorded, "the recording's own calibration")):
        if poses is None:
            continue
        fault = _pose_fault(view, found.intrinsics, poses, tool_xyz.astype(np.float64))
        if fault is None:
            return replace(view, world_from_camera=poses, pose_source=f"{source}, robot base"), None
        faults.append(fault)
    return view, f"pose refused: {'; '.join(dict.fromkeys(faults))}" if faults else None


def _pose_fault(
    view: CameraView, intrinsics: Float[np.ndarray, "3 3"], poses: Float[np.ndarray, "P 4 4"], tool: np.ndarray
) -> str | None:
    """Why poses cannot belong to this camera, or None. A fixed camera must see the tool; a wrist camera, which may not
    see it, must move with it.
    """
    if view.fixed:
        return pose_fault(tool, intrinsics, poses, view.size)
    if not np.isfinite(poses).all():
        return "it holds a value that is not finite"
    return None if mounted_on(tool, poses) else "it does not move with the hand"


def intrinsics_of_entry(entry: Any, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """Intrinsics from fx, cx, fy, cy at 1280 x 720, scaled to pictures of a size."""
    values = entry["cameraMatrix"] if isinstance(entry, dict) else entry
    fx, cx, fy, cy = (float(value) for value in values)
    x, y = size[0] / RECORDED_SIZE[0], size[1] / RECORDED_SIZE[1]
    return np.array([[fx * x, 0, cx * x], [0, fy * y, cy * y], [0, 0, 1]])


def pose_of_entry(entry: Any) -> Float[np.ndarray, "4 4"]:
    """Camera-to-base from x, y, z and angles about the fixed x, then y, then z axis."""
    *position, roll, pitch, yaw = (float(value) for value in entry)
    if len(position) != 3:
        raise ValueError(f"a pose has 6 numbers, found {len(position) + 3}")
    (cx, sx), (cy, sy), (cz, sz) = ((math.cos(a), math.sin(a)) for a in (roll, pitch, yaw))
    pose = np.eye(4)
    pose[:3, :3] = [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
    pose[:3, 3] = position
    return pose
