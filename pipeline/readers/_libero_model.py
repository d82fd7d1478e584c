"""Cameras, joints and clip planes from the simulator's model (MuJoCo XML) that is stored with a LIBERO demo."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from xml.etree.ElementTree import Element

import numpy as np

from schemas.cameras import pose_from_mujoco, pose_from_quaternion
from schemas.episode import BadEpisode

NEAR, FAR = 0.01, 50.0
"""MuJoCo's default clip planes, in units of the model's extent."""

POSITIONS, VELOCITIES = {"free": 7, "ball": 4}, {"free": 6, "ball": 3}
"""How many numbers a joint's position and its velocity have, for the types with more than one."""


class SimulatorModel:
    """Reads values from the model; None where the model does not have them.

    Raises:
        BadEpisode: the XML cannot be parsed. (expat itself refuses entity bombs.)
    """

    def __init__(self, episode: str, text: str | bytes | None):
        self.episode = episode
        try:
            self.root: Element | None = None if text is None else ElementTree.fromstring(text)
        except (ElementTree.ParseError, ValueError, TypeError) as error:
            raise BadEpisode("bad_model", f"{episode}: the attribute model_file is no XML: {error}") from error

    def fov_y(self, camera: str) -> float | None:
        """Vertical field of view in degrees.

        Raises:
            BadEpisode: it is not a valid angle.
        """
        found = self._find(f".//camera[@name='{camera}']")
        if found is None or found.get("fovy") is None:
            return None
        (angle,) = self._numbers(found, "fovy", 1)
        if not 0 < angle < 180:
            raise BadEpisode(
                "bad_model", f"{self.episode}: fovy of camera {camera} must lie between 0 and 180, found {angle:g}"
            )
        return angle

    def world_from_camera(self, camera: str) -> np.ndarray | None:
        """The pose of a camera that is fixed to the world, 4 x 4 (``schemas.cameras``).

        Raises:
            BadEpisode: position or orientation are not numbers.
        """
        found = self._find(f".//camera[@name='{camera}']")
        if found is None or not (found.get("pos") and found.get("quat")):
            return None
        return pose_from_mujoco(*self._place(found, f"camera {camera}"))

    def world_from_body(self, name: str) -> np.ndarray | None:
        """The pose of a body that is fixed to the world, 4 x 4.

        Raises:
            BadEpisode: position or orientation are not numbers.
        """
        found = self._find(f"./worldbody/body[@name='{name}']")
        if found is None or found.find("joint") is not None or found.find("freejoint") is not None:
            return None
        return pose_from_quaternion(*self._place(found, f"body {name}"))

    def _place(self, element: Element, what: str) -> tuple[np.ndarray, np.ndarray]:
        """Position and quaternion (real part first) of an element; those of its parent where they are not given."""
        position = self._numbers(element, "pos", 3) if element.get("pos") else [0.0, 0.0, 0.0]
        quaternion = self._numbers(element, "quat", 4) if element.get("quat") else [1.0, 0.0, 0.0, 0.0]
        if not np.linalg.norm(quaternion) > 0:
            raise BadEpisode("bad_model", f"{self.episode}: quat of {what} is all zero")
        return np.array(position), np.array(quaternion)

    def has_camera(self, camera: str) -> bool:
        """Whether there is a camera of this name."""
        return camera in self.cameras()

    def cameras(self) -> list[str]:
        """Names of all cameras."""
        found = [] if self.root is None else self.root.iter("camera")
        return [name for element in found if (name := element.get("name"))]

    def stands(self, camera: str) -> bool:
        """Whether a camera is fixed to the world and not to a body."""
        return self._find(f"./worldbody/camera[@name='{camera}']") is not None

    def joint_places(self) -> list[tuple[str, int]]:
        """Every named joint, in the order of the model, with the index of its first position in the vector of all
        positions.
        """
        places, place = [], 0
        for name, kind in self._joints():
            places.append((name, place))
            place += POSITIONS.get(kind, 1)
        return [(name, at) for name, at in places if name]

    def coordinates(self) -> tuple[int, int]:
        """How many numbers all positions have, and all velocities: with the time before them they are a state."""
        kinds = [kind for _, kind in self._joints()]
        return sum(POSITIONS.get(kind, 1) for kind in kinds), sum(VELOCITIES.get(kind, 1) for kind in kinds)

    def _joints(self) -> Iterator[tuple[str, str]]:
        """Name and type of every joint, in the order of the model."""
        bodies = None if self.root is None else self.root.find("worldbody")
        for element in () if bodies is None else bodies.iter():
            if element.tag in ("joint", "freejoint"):
                yield element.get("name", ""), "free" if element.tag == "freejoint" else element.get("type", "hinge")

    def clip_planes(self) -> tuple[float, float] | None:
        """Near and far plane in metres: ``znear`` and ``zfar`` are in units of the model's extent.

        Raises:
            BadEpisode: they are not numbers.
        """
        statistic, planes = self._find("./statistic[@extent]"), self._find("./visual/map")
        if statistic is None:
            return None
        (extent,) = self._numbers(statistic, "extent", 1)
        near, far = (
            self._numbers(planes, name, 1)[0] if planes is not None and planes.get(name) is not None else default
            for name, default in (("znear", NEAR), ("zfar", FAR))
        )
        return near * extent, far * extent

    def _find(self, path: str) -> Element | None:
        return self.root.find(path) if self.root is not None else None

    def _numbers(self, element: Element, name: str, count: int) -> list[float]:
        text = element.get(name, "")
        try:
            values = [float(word) for word in text.split()]
        except ValueError:
            values = []
        if len(values) != count or not np.isfinite(values).all():
            raise BadEpisode(
                "bad_model",
                f"{self.episode}: {name} of <{element.tag}> in model_file must be {count} finite number(s), found "
                f"{text[:40]!r}",
            )
        return values
