"""Exact flow from recorded states: every point moves with the body it lies on."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from pipeline.simulator.model import simulator_library
from pipeline.simulator.rendering import SceneCamera
from schemas.cameras import intrinsics_from_fov, invert_pose, lift, project, transform
from schemas.episode import BadEpisode
from schemas.scene_flow import SceneFlow

NEARER = 0.01
"""A point is hidden if everything in the 3 x 3 pixels around it is nearer by more than this, metres."""

UNIT = 0.05
"""By how much the length of a recorded quaternion may differ from 1."""
NEAREST = 0.01
"""Smallest depth in metres in the reference camera; nearer, image coordinates are meaningless."""
BEYOND = 1.0
"""Widths and heights of the image by which a point may lie outside it; farther out than that (beside a camera that
moves) it is left out.
"""


@dataclass(frozen=True)
class Motion:
    """Poses of all bodies and of the camera in each frame.

    Attributes:
        known: the state of that frame was recorded; other frames repeat the last recorded state.
        world_from_body: pose of every body.
        world_from_camera: pose of the camera, OpenCV axes.
        intrinsics: of the camera, in px of the rendered size.
    """

    known: Bool[np.ndarray, " T"]
    world_from_body: Float[np.ndarray, "T B 4 4"]
    world_from_camera: Float[np.ndarray, "T 4 4"]
    intrinsics: Float[np.ndarray, "3 3"]


@dataclass(frozen=True)
class Seen:
    """The camera's rendered view of an episode.

    Attributes:
        depth: along the optical axis in metres, NaN where there is nothing.
        bodies: the body in each pixel, -1 where there is none.
    """

    depth: Float[np.ndarray, "T H W"]
    bodies: Int[np.ndarray, "T H W"]

    @cached_property
    def cover(self) -> Float[np.ndarray, "T H W"]:
        """The largest depth in the 3 x 3 pixels around each pixel: a point that is farther is hidden. Computed once per
        frame, for all windows.
        """
        import cv2

        square = np.ones((3, 3), np.uint8)
        return np.stack([cv2.dilate(np.where(np.isnan(d), np.float32(np.inf), d), square) for d in self.depth])


class Replay:
    """Sets the states of one episode one after the other. Nothing is simulated, so nothing drifts.

    Args:
        episode: its name, for messages.
        model: ``mujoco.MjModel``.
        states: flattened state (time, positions, velocities) of each frame; NaN where it was not recorded.
        camera: the model's name of the camera.
        size: (width, height) of its image.

    Raises:
        BadEpisode: the states do not fit the model, or it has no such camera.
    """

    def __init__(self, episode: str, model: Any, states: Float[np.ndarray, "T D"], camera: str, size: tuple[int, int]):
        mujoco = simulator_library()
        self.mujoco, self.model, self.size, self.states = mujoco, model, size, states
        needed = 1 + model.nq + model.nv
        if states.shape[1] not in (needed, needed + model.na):
            raise BadEpisode(
                "bad_states",
                f"{episode}: a state of its model has {needed} numbers (time, positions, velocities), found "
                f"{states.shape[1]}: "
                "they were recorded with another model",
            )
        names = [model.camera(i).name for i in range(model.ncam)]
        if camera not in names:
            raise BadEpisode("no_camera", f"{episode}: its model has no camera {camera}; it has: {', '.join(names)}")
        self.camera = names.index(camera)
        self.known: Bool[np.ndarray, " T"] = np.asarray(np.isfinite(states[:, :needed]).all(axis=1))
        if not self.known[0]:
            raise BadEpisode("bad_states", f"{episode}: the state of its first frame is missing or not finite")
        self._check_rotations(episode)
        self.data = mujoco.MjData(model)
        self.motion = self._motion()

    def _check_rotations(self, episode: str) -> None:
        """Refuse states whose numbers are no rotation where the model expects one: they are damaged or belong to
        another model.
        """
        joints, kinds = self.model.jnt_qposadr, self.model.jnt_type
        free = joints[kinds == self.mujoco.mjtJoint.mjJNT_FREE] + 3
        places = np.concatenate([free, joints[kinds == self.mujoco.mjtJoint.mjJNT_BALL]])
        if len(places) == 0:
            return
        rotations = self.states[self.known][:, 1 + places[:, None] + np.arange(4)]
        lengths = np.linalg.norm(rotations, axis=-1)
        worst = np.unravel_index(np.abs(lengths - 1).argmax(), lengths.shape)
        if not abs(lengths[worst] - 1) <= UNIT:
            raise BadEpisode(
                "bad_states",
                f"{episode}: the state of frame {np.flatnonzero(self.known)[worst[0]]} has a rotation (quaternion) "
                "of length "
                f"{lengths[worst]:.3g} where 1 was expected: it was recorded with another model, or is damaged",
            )

    def set_frame(self, frame: int) -> Any:
        """``mujoco.MjData`` with the positions of a frame, or of the last known one before it."""
        state = self.states[np.flatnonzero(self.known[: frame + 1])[-1]]
        self.data.qpos[:] = state[1 : 1 + self.model.nq]
        self.mujoco.mj_kinematics(self.model, self.data)
        self.mujoco.mj_comPos(self.model, self.data)  # needed by lights and cameras that follow bodies
        self.mujoco.mj_camlight(self.model, self.data)
        return self.data

    def see(self, eye: SceneCamera) -> Seen:
        """Depth and bodies of every frame, each rendered once."""
        seen = [eye.depth_and_bodies(self.set_frame(frame)) for frame in range(len(self.states))]
        return Seen(np.stack([depth for depth, _ in seen]), np.stack([bodies for _, bodies in seen]))

    def pictures(self, eye: SceneCamera, frames: Int[np.ndarray, " N"] | None = None) -> UInt8[np.ndarray, "N H W 3"]:
        """RGB of every frame, or of some."""
        wanted = range(len(self.states)) if frames is None else frames
        width, height = self.size
        pictures = [eye.picture(self.set_frame(int(frame))) for frame in wanted]
        return np.stack(pictures) if pictures else np.zeros((0, height, width, 3), np.uint8)

    def _motion(self) -> Motion:
        count = len(self.states)
        bodies = np.tile(np.eye(4), (count, self.model.nbody, 1, 1))
        cameras = np.tile(np.eye(4), (count, 1, 1))
        for frame in range(count):
            data = self.set_frame(frame)
            bodies[frame, :, :3, :3] = data.xmat.reshape(-1, 3, 3)
            bodies[frame, :, :3, 3] = data.xpos
            # MuJoCo's cameras have OpenGL's axes.
            cameras[frame, :3, :3] = data.cam_xmat[self.camera].reshape(3, 3) @ np.diag([1.0, -1.0, -1.0])
            cameras[frame, :3, 3] = data.cam_xpos[self.camera]
        intrinsics = intrinsics_from_fov(float(self.model.cam_fovy[self.camera]), *self.size)
        return Motion(self.known, bodies, cameras, intrinsics)


def exact_flow(
    motion: Motion,
    seen: Seen,
    reference: int,
    keypoints: Float[np.ndarray, "K 2"],
    horizon: int,
) -> SceneFlow:
    """Flow of keypoints that are pixel centres. It is valid also where they are hidden, because the pose of their body
    gives their position, unless they are far outside the reference camera's image or behind the camera.

    Args:
        motion: of the episode.
        seen: by the camera, in every frame.
        reference: frame on which the keypoints are set.
        keypoints: in px.
        horizon: steps.
    """
    count, height, width = seen.depth.shape
    steps = reference + np.arange(horizon + 1)
    frames = np.minimum(steps, count - 1)
    known = (steps < count) & motion.known[frames]
    column, row = np.floor(keypoints).astype(int).T
    z, body = seen.depth[reference, row, column].astype(np.float64), seen.bodies[reference, row, column]
    hit = np.isfinite(z) & (body >= 0)
    start = lift(np.concatenate([keypoints, np.where(hit, z, 1)[:, None]], axis=1), motion.intrinsics)
    world = transform(motion.world_from_camera[reference], start)
    carried = motion.world_from_body[frames][:, np.maximum(body, 0)]  # S K 4 4
    world = transform(carried, transform(invert_pose(motion.world_from_body[reference, np.maximum(body, 0)]), world))
    world = world.swapaxes(0, 1)  # K S 3
    own = project(transform(invert_pose(motion.world_from_camera[frames]), world), motion.intrinsics)
    there = project(transform(invert_pose(motion.world_from_camera[reference]), world), motion.intrinsics)
    with np.errstate(invalid="ignore"):
        off = np.abs(there[..., :2] / [width, height] - 0.5).max(axis=-1)
        valid = hit[:, None] & known & (there[..., 2] >= NEAREST) & (off <= 0.5 + BEYOND)
    visible = valid & _in_front(own, seen, frames)
    visible[:, 0] = valid[:, 0]
    return SceneFlow(np.where(valid[..., None], there, 0) / [width, height, 1], visible, valid)


def _in_front(own: Float[np.ndarray, "K S 3"], seen: Seen, frames: Int[np.ndarray, " S"]) -> Bool[np.ndarray, "K S"]:
    """Whether points lie in the image and nothing rendered is nearer."""
    size = seen.depth.shape[:0:-1]
    uv = np.nan_to_num(own[..., :2], nan=-1)
    inside = ((uv >= 0) & (uv < size)).all(axis=-1)
    column, row = (np.clip(np.floor(uv[..., i]).astype(int), 0, size[i] - 1) for i in (0, 1))
    with np.errstate(invalid="ignore"):
        return inside & ~(seen.cover[frames, row, column] < own[..., 2] - NEARER)
