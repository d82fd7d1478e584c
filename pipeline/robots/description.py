"""A robot's links: where they are when its joints are so, and their surfaces. MuJoCo reads the description and does the
kinematics.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pipeline.robots.surfaces import surface_points
from pipeline.simulator.model import physics_library
from schemas.cameras import invert_pose, transform
from schemas.episode import RobotJoints


class BadDescription(ValueError):
    """The file describes no robot, or not this one; the message says why."""


class RobotDescription:
    """A robot from a file: URDF, or MuJoCo's own XML.

    Attributes:
        joints: names of the joints with one number each, in order.
        links: names of the links that move; fixed ones are joined with those that carry them.
        surfaces: points on each link, in its frame.
    """

    def __init__(self, path: Path):
        """Read a description.

        Raises:
            BadDescription: it cannot be read.
            MissingDependency: mujoco is not installed.
        """
        self._mujoco, self.path = physics_library(f"the robot description {path.name}"), path
        self._model = self._load()
        model, kinds = self._model, self._mujoco.mjtJoint
        scalar = {int(kinds.mjJNT_HINGE), int(kinds.mjJNT_SLIDE)}
        if others := [model.joint(j).name for j in range(model.njnt) if int(model.jnt_type[j]) not in scalar]:
            raise BadDescription(f"{path}: joints must turn or slide, and {others[0]!r} does neither")
        self.joints = tuple(model.joint(j).name for j in range(model.njnt))
        self.links = tuple(model.body(b).name for b in range(model.nbody))
        self.surfaces = [self._surface(body) for body in range(model.nbody)]
        if not any(map(len, self.surfaces)):
            raise BadDescription(f"{path} has no shapes for collisions, by which points are on the robot")

    def _load(self) -> Any:
        try:
            text = self.path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise BadDescription(f"{self.path} cannot be read: {error}") from error
        try:
            if "<robot" in text:
                robot = _solid(text)
                meshes = self._meshes(robot)
                return self._mujoco.MjModel.from_xml_string(ElementTree.tostring(robot, encoding="unicode"), meshes)
            return self._mujoco.MjModel.from_xml_path(str(self.path))
        except BadDescription:
            raise
        except (ValueError, ElementTree.ParseError, self._mujoco.FatalError) as error:
            said = " ".join(str(error).split())
            raise BadDescription(f"{self.path} is no description (URDF or MJCF) that MuJoCo reads: {said}") from error

    def _meshes(self, robot: ElementTree.Element) -> dict[str, bytes]:
        """The files of a URDF's shapes, by the names that they get there: MuJoCo ignores folders, in which two files
        may have the same name.
        """
        found: dict[Path, str] = {}
        for mesh in robot.iter("mesh"):
            name = mesh.get("filename", "")
            path = self._mesh(name)
            if path is None:
                raise BadDescription(f"{self.path} names the mesh {name}, which is not here: keep its package together")
            mesh.set("filename", found.setdefault(path, f"{len(found)}_{path.name}"))
        return {name: path.read_bytes() for path, name in found.items()}

    def _mesh(self, name: str) -> Path | None:
        """A mesh's file: beside the description, or in its package (``package://NAME/...``), a folder above it."""
        if name.startswith("package://"):
            package, _, rest = name.removeprefix("package://").partition("/")
            folders = [parent / rest for parent in self.path.absolute().parents if parent.name == package]
            folders += [parent / package / rest for parent in self.path.absolute().parents]
        else:
            folders = [self.path.absolute().parent / name]
        return next((path for path in folders if path.is_file()), None)

    def _surface(self, body: int) -> Float[np.ndarray, "N 3"]:
        """Points on a link. Of MJCF's shapes those that collide, or the others where none does."""
        model = self._model
        first = int(model.body_geomadr[body])
        geoms = range(first, first + int(model.body_geomnum[body])) if first >= 0 else range(0)
        solid = [geom for geom in geoms if model.geom_contype[geom] or model.geom_conaffinity[geom]]
        try:
            points = [surface_points(model, geom) for geom in solid or geoms]
        except ValueError as error:
            raise BadDescription(f"{self.path}, link {model.body(body).name}: {error}") from error
        return np.concatenate([np.zeros((0, 3)), *points])

    def prefix_of(self, names: Sequence[str]) -> str:
        """What the description's joints are called before the recorded names, such as ``panda_``.

        Raises:
            BadDescription: none of the recorded joints is in the description.
        """
        choices = {joint.removesuffix(name) for joint in self.joints for name in names if joint.endswith(name)}
        found = {prefix: sum(prefix + name in self.joints for name in names) for prefix in choices}
        if not found:
            raise BadDescription(
                f"{self.path} has the joints {', '.join(self.joints)}, and the recording {', '.join(names)}: they "
                "describe different robots"
            )
        return max(sorted(found), key=found.__getitem__)

    def moving(self, recorded: RobotJoints) -> "MovingRobot":
        """The links at the recorded frames.

        Raises:
            BadDescription: none of the recorded joints is in the description.
        """
        model, data = self._model, self._mujoco.MjData(self._model)
        prefix = self.prefix_of(recorded.names)
        named = [name for name in recorded.names if prefix + name in self.joints]
        places = [int(model.joint(prefix + name).qposadr[0]) for name in named]
        columns = [recorded.names.index(name) for name in named]
        poses = np.empty((len(recorded.positions), model.nbody, 4, 4))
        poses[:] = np.eye(4)
        for frame, positions in enumerate(recorded.positions):
            data.qpos[places] = positions[columns]
            self._mujoco.mj_kinematics(model, data)
            poses[frame, :, :3, :3] = data.xmat.reshape(-1, 3, 3)
            poses[frame, :, :3, 3] = data.xpos
        told = {prefix + name for name in named}
        known = np.array([self._is_known(body, told) for body in range(model.nbody)])
        surfaces = [s if known[body] else s[:0] for body, s in enumerate(self.surfaces)]
        return MovingRobot(recorded.world_from_base @ poses, surfaces, np.array(model.body_parentid))

    def _is_known(self, body: int, told: set[str]) -> bool:
        """Whether all joints that a link hangs on were recorded."""
        model = self._model
        while body:
            first = int(model.body_jntadr[body])
            if any(self.joints[j] not in told for j in range(first, first + int(model.body_jntnum[body]))):
                return False
            body = int(model.body_parentid[body])
        return True


def _solid(text: str) -> ElementTree.Element:
    """A URDF with its shapes for collisions alone, each named: MuJoCo uses no others, and reads no .dae, in which the
    pictures mostly are.
    """
    robot = ElementTree.fromstring(text)
    for number, link in enumerate(robot.iter("link")):
        for visual in link.findall("visual"):
            link.remove(visual)
        for place, shape in enumerate(link.findall("collision")):
            shape.set("name", f"{number}_{place}")
    return robot


class MovingRobot:
    """A robot's links at every frame of an episode.

    Attributes:
        world_from_link: T x B poses.
        surfaces: points on each link in its frame; none of a link whose joints were not recorded.
        parents: the link that carries each; 0, which stands still, carries itself.
    """

    def __init__(
        self,
        world_from_link: Float[np.ndarray, "T B 4 4"],
        surfaces: list[Float[np.ndarray, "N 3"]],
        parents: Int[np.ndarray, " B"],
    ):
        self.world_from_link, self.surfaces, self.parents = world_from_link, surfaces, parents
        self._squares = [(s**2).sum(axis=1) for s in surfaces]
        self._boxes = [(s.min(axis=0), s.max(axis=0)) if len(s) else (np.inf, -np.inf) for s in surfaces]

    def nearest(
        self, points: Float[np.ndarray, "P 3"], frame: int, within: float
    ) -> tuple[np.ndarray, Float[np.ndarray, " P"]]:
        """The nearest link of each point at a frame (-1: none is so near), and the distance to its surface, metres."""
        link, least = np.full(len(points), -1), np.full(len(points), np.inf)
        for number, surface in enumerate(self.surfaces):
            pose = self.world_from_link[frame, number]
            own = transform(invert_pose(pose), points)
            low, high = self._boxes[number]
            rows = np.flatnonzero(((own >= low - within) & (own <= high + within)).all(axis=1))
            if not len(rows):
                continue
            squares = self._squares[number] - 2 * own[rows] @ surface.T
            apart = np.sqrt(np.maximum(squares.min(axis=1) + (own[rows] ** 2).sum(axis=1), 0))
            nearer = apart < np.minimum(within, least[rows])
            link[rows[nearer]], least[rows[nearer]] = number, apart[nearer]
        return link, least

    @property
    def ends(self) -> list[int]:
        """Links that may hold or push things: those that carry no other of known place, such as fingers, and those that
        carry them, such as a hand.
        """
        known = [number for number, surface in enumerate(self.surfaces) if len(surface)]
        carry = {int(self.parents[number]) for number in known}
        last = [number for number in known if number not in carry]
        return sorted({*last, *(int(self.parents[number]) for number in last)} - {0})

    def carried(self, points: Float[np.ndarray, "P 3"], link: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Where points on links go: P x S x 3, world, from their places at the first of the frames."""
        own = transform(invert_pose(self.world_from_link[frames[0], link]), points)
        return transform(self.world_from_link[frames][:, link], own).swapaxes(0, 1)
