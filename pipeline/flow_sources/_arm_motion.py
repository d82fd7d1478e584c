"""Puts points that lie on the robot where its recorded joints take them: exact, also where they are hidden.

A point lies on the link whose surface it touches in the reference frame. Depth has the last word: where it shows, at
more steps than a few, that the point cannot be where the link takes it, the joints do not hold for the point, and its
track is kept.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.flow_sources._body_motion import MOVED, BodyMotion
from pipeline.flow_sources._holding import Carrier
from pipeline.flow_sources._point_evidence import shown_at
from pipeline.robots.description import BadDescription, RobotDescription
from pipeline.simulator.replay import NEAREST
from pipeline.vision.lift import LiftedTracks
from pipeline.vision.rigid_motion import lengths
from schemas.cameras import Cameras, invert_pose, lift, project, transform
from schemas.episode import BadEpisode, Episode
from schemas.perception import DepthMaps
from schemas.scene_flow import SceneFlow

DOUBT = 0.1
"""Share of the steps at which depth tells of a point at which it may contradict."""
LOOKS, FEW = 8, 50
"""Frames at which the robot is looked for, and pixels of it that tell nothing yet."""
SHOWN, ELSEWHERE = 0.6, 0.05
"""Share of what is visible of the robot that depth must show in its place, and metres from it that are elsewhere."""
PLACES = 1000
"""Places on a link that tell where it is."""
ALIKE, ZERO = 0.002, np.zeros(1, int)
"""Metres by which two fingers may move apart and count as one body."""


@dataclass(frozen=True)
class ArmPoints:
    """Points of a window that lie on the robot.

    Attributes:
        point: which points.
        uvz: where the joints take them, as in ``SceneFlow``.
        visible: depth shows them there.
        valid: steps at which ``uvz`` holds.
        bodies: the robot's ends that move: what they hold moves with them.
    """

    point: Int[np.ndarray, " P"]
    uvz: Float[np.ndarray, "P S 3"]
    visible: Bool[np.ndarray, "P S"]
    valid: Bool[np.ndarray, "P S"]
    bodies: tuple[Carrier, ...]

    def put(self, lifted: LiftedTracks) -> LiftedTracks:
        """The window with these points where the joints take them."""
        uvz, visible, valid = lifted.flow.uvz.copy(), lifted.flow.visible.copy(), lifted.flow.valid.copy()
        uvz[self.point] = np.where(self.valid[..., None], self.uvz, uvz[self.point])
        visible[self.point], valid[self.point] = self.visible, self.valid
        joints = np.zeros(len(uvz), bool)
        joints[self.point] = True
        others = ~joints[:, None]
        return replace(
            lifted,
            flow=SceneFlow(uvz, visible, valid),
            hole=lifted.hole & others,
            edge=lifted.edge & others,
            carried=None if lifted.carried is None else lifted.carried & others,
            joints=joints,
        )


class ArmMotion:
    """The robot in the windows of an episode."""

    def __init__(
        self,
        robot: RobotDescription,
        episode: Episode,
        depth: DepthMaps,
        cameras: Cameras,
        touch: float,
        match: float,
        shown: bool = False,
    ):
        """Find the robot's links at every frame.

        Args:
            robot: the robot.
            episode: of which the primary view is tracked.
            depth: of its frames, in metres.
            cameras: their intrinsics hold for that view.
            touch: metres from a link's surface within which a point lies on it.
            match: largest difference in metres between measured and expected depth.
            shown: it has been checked, with more of the episode, that depth shows the robot in its place.

        Raises:
            BadEpisode: the episode has no joints, or not those of this robot; its camera's place is not known, or its
                depth is not in metres.
        """
        view, joints = episode.views[episode.primary], episode.joints
        if joints is None:
            raise BadEpisode("no_joints", f"{episode.ref.name} has no recorded joints: build it without arm=joints")
        if view.world_from_camera is None:
            raise BadEpisode(
                "no_camera_pose",
                f"{episode.ref.name}: where camera {view.name} is from the robot is not known: build it without "
                "arm=joints, or with its calibration",
            )
        if depth.unit != "m":
            raise BadEpisode("relative_depth", f"{episode.ref.name}: arm=joints needs depth in metres")
        try:
            self._robot = robot.moving(joints)
        except BadDescription as error:
            raise BadEpisode("other_robot", f"{episode.ref.name}: {error}") from error
        self._depth, self._cameras, self._touch, self._match = depth.depth, cameras, touch, match
        self._poses = np.broadcast_to(view.world_from_camera, (view.length, 4, 4))
        if not shown:
            self._check_seen(episode.ref.name)

    def _check_seen(self, name: str) -> None:
        """Check at some frames that depth shows the robot where it should be, as far as nothing nearer covers it: else
        joints, description, the robot's place and the camera's do not belong together.
        """
        shown = asked = 0
        width, height = self._cameras.size
        for frame in frames_to_look_at(len(self._depth)):
            poses = invert_pose(self._poses[frame]) @ self._robot.world_from_link[frame]
            surfaces = [s[::4] for s in self._robot.surfaces]
            points = np.concatenate([transform(pose, s) for pose, s in zip(poses, surfaces, strict=True)])
            u, v, z = project(points, self._cameras.intrinsics).T
            with np.errstate(invalid="ignore"):
                inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
            place = v[inside].astype(int) * width + u[inside].astype(int)
            front = np.full(width * height, np.inf)
            np.minimum.at(front, place, z[inside])
            off = self._depth[frame].ravel() - front
            with np.errstate(invalid="ignore"):
                seen = np.isfinite(front) & (off > -ELSEWHERE)
                asked += int(np.count_nonzero(seen))
                shown += int(np.count_nonzero(seen & (off < ELSEWHERE)))
        if asked > FEW and shown < SHOWN * asked:
            raise BadEpisode(
                "other_robot",
                f"{name}: of the robot that its joints describe, depth shows {shown / asked:.0%} where it should be: "
                "another description than the robot's, or its place or the camera's is wrong",
            )

    def on(self, reference: int, lifted: LiftedTracks) -> "ArmPoints":
        """The points of a window that lie on the robot."""
        flow, scale = lifted.flow, np.array([*self._cameras.size, 1])
        steps = reference + np.arange(flow.uvz.shape[1])
        within = steps < len(self._depth)
        frames = np.minimum(steps, len(self._depth) - 1)
        begin = self._poses[reference]
        start = transform(begin, lift(flow.uvz[:, 0] * scale, self._cameras.intrinsics))
        usable = np.flatnonzero(flow.valid[:, 0])
        link, _ = self._robot.nearest(start[usable], reference, self._touch)
        point, link = usable[link >= 0], link[link >= 0]
        world = self._robot.carried(start[point], link, frames)
        agree, contradicted = self._look(world, frames)
        agree, contradicted = agree & within, contradicted & within
        asked = (agree | contradicted).sum(axis=1)
        kept = contradicted.sum(axis=1) <= DOUBT * asked
        point, link, world, agree, contradicted = (a[kept] for a in (point, link, world, agree, contradicted))
        there = project(transform(invert_pose(begin), world), self._cameras.intrinsics)
        with np.errstate(invalid="ignore"):
            known = within & (there[..., 2] > NEAREST) & (np.abs(there[..., :2]) < 2 * scale[:2]).all(axis=-1)
        known &= ~contradicted
        known[:, 0] = agree[:, 0] = True
        there[:, 0] = flow.uvz[point, 0] * scale
        return ArmPoints(point, there / scale, agree, known, self._bodies(point, link, world, frames, begin))

    def _bodies(
        self,
        point: Int[np.ndarray, " P"],
        link: Int[np.ndarray, " P"],
        world: Float[np.ndarray, "P S 3"],
        frames: Int[np.ndarray, " S"],
        begin: Float[np.ndarray, "4 4"],
    ) -> tuple[Carrier, ...]:
        """The ends of the robot, as far as they move."""
        found: list[Carrier] = []
        around = {*self._robot.ends, *(int(self._robot.parents[number]) for number in self._robot.ends)}
        surface = np.concatenate([self._surface(number, int(frames[0]), begin) for number in sorted(around)])
        for number in self._robot.ends:
            near = number
            while near and not (link == near).any():
                near = int(self._robot.parents[near])
            rows = np.flatnonzero(link == near)
            if not len(rows) or np.linalg.norm(world[rows] - world[rows, :1], axis=-1).max() <= MOVED:
                continue
            poses = self._robot.world_from_link[frames, number]
            motion = invert_pose(begin) @ poses @ invert_pose(poses[0]) @ begin
            body = BodyMotion(point[rows], np.ones(len(frames), bool), motion[:, :3, :3], motion[:, :3, 3])
            middle = transform(invert_pose(begin), world[rows, 0].mean(axis=0, keepdims=True))
            if all(lengths(body.carry(middle, ZERO) - one.body.carry(middle, ZERO)).max() > ALIKE for one in found):
                middle = self._surface(number, int(frames[0]), begin).mean(axis=0)
                found.append(Carrier(body, point[rows], middle, surface))
        return tuple(found)

    def _surface(self, link: int, frame: int, begin: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "N 3"]:
        """Some places on a link's surface at a frame, in the reference camera."""
        surface = self._robot.surfaces[link]
        some = surface[:: max(len(surface) // PLACES, 1)]
        return transform(invert_pose(begin) @ self._robot.world_from_link[frame, link], some)

    def _look(
        self, world: Float[np.ndarray, "P S 3"], frames: Int[np.ndarray, " S"]
    ) -> tuple[Bool[np.ndarray, "P S"], Bool[np.ndarray, "P S"]]:
        """Where depth shows points at supposed places, and where it shows that they are not there (``shown_at``)."""
        own = project(transform(invert_pose(self._poses[frames]), world), self._cameras.intrinsics)
        return shown_at(self._depth, frames, own, np.ones(own.shape[:2], bool), self._match, sure=True)


def frames_to_look_at(length: int) -> Int[np.ndarray, " N"]:
    """The frames at which the robot is looked for in an episode of so many."""
    return np.unique(np.linspace(0, length - 1, LOOKS).astype(int))
