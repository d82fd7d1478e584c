"""DROID's improved camera calibrations, published apart from the episodes as JSON files keyed by episode.

* ``episode_id_to_path.json``: episode id -> ``lab/outcome/date/time``, by which an RLDS episode finds its id.
* ``camera_serials.json``: id -> ``ext1_cam_serial``, ``ext2_cam_serial``, ``wrist_cam_serial``.
* ``intrinsics.json``: id -> serial -> **fx, cx, fy, cy** at 1280 x 720. Read as fx, fy, cx, cy it is plausible and wrong.
* ``cam2base_extrinsics.json``: id -> serial -> x, y, z and Euler angles "xyz" of the camera in the robot's base, OpenCV axes.
"""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

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
    """What the files say of one camera of one episode.

    Attributes:
        intrinsics: at the resolution asked for.
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
    """Changes when a calibration file does; empty where there are none."""
    return "".join(f"-{p.stat().st_size}-{p.stat().st_mtime_ns}" for p in calibration_files(root))


@lru_cache(maxsize=2)
def read_calibration(root: Path, fingerprint: str) -> "Calibration | None":
    """All calibrations of a dataset's folder, read once in a process; None where there are no files.

    Raises:
        BadCalibration: a file is missing, is no JSON, or has another layout.
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
            BadCalibration: an entry is not laid out as the files' authors say.
        """
        episode = self._id_of.get(episode_path, "")
        serial = str(self._tables[SERIALS].get(episode, {}).get(SERIAL_OF[camera], ""))
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
