"""A small world whose scene flow is known exactly: a textured wall, a textured card that moves rigidly, and a moving
camera.

It needs no simulator and no files. Pictures and depth are ray-cast, and the flow of any image point follows from the
poses alone, so it tests tracking, lifting and cameras independently of their code.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from schemas.cameras import invert_pose, lift, project, transform
from schemas.scene_flow import SceneFlow


@dataclass(frozen=True)
class RigidWorld:
    """Two rigid bodies and a camera over T frames; lengths in metres, OpenCV axes.

    Attributes:
        intrinsics: of the camera.
        size: (width, height) of its image in pixels.
        world_from_camera: its pose in each frame.
        world_from_wall: pose of the wall, which is the infinite plane z = 0 of its own frame.
        world_from_card: pose of the card in each frame: the square |x|, |y| <= half_side of the plane z = 0 of its own
            frame.
        half_side: of the card.
    """

    intrinsics: Float[np.ndarray, "3 3"]
    size: tuple[int, int]
    world_from_camera: Float[np.ndarray, "T 4 4"]
    world_from_wall: Float[np.ndarray, "4 4"]
    world_from_card: Float[np.ndarray, "T 4 4"]
    half_side: float = 0.15

    def __len__(self) -> int:
        return len(self.world_from_camera)

    def render(self, frame: int) -> tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "H W"]]:
        """RGB and depth (m, along the axis) of a frame."""
        width, height = self.size
        pixels = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
        depth, local, on_card = self._cast(frame, pixels)
        shade = _texture(local[..., 0], local[..., 1], on_card)
        return np.rint(shade * 255).astype(np.uint8), depth

    def frames(self) -> UInt8[np.ndarray, "T H W 3"]:
        """All pictures."""
        return np.stack([self.render(frame)[0] for frame in range(len(self))])

    def depth(self) -> Float[np.ndarray, "T H W"]:
        """All depth maps."""
        return np.stack([self.render(frame)[1] for frame in range(len(self))])

    def tracks(
        self, reference: int, keypoints: Float[np.ndarray, "K 2"], horizon: int
    ) -> tuple[Float[np.ndarray, "K S 3"], Bool[np.ndarray, "K S"]]:
        """Where the points seen at ``keypoints`` of the reference frame are in the *own camera* of each step: (u px, v
        px, z), and whether they are seen there: in front, inside the image and not behind the card."""
        _, local, on_card = self._cast(reference, keypoints)
        steps = np.arange(reference, reference + horizon + 1)
        body = np.where(on_card[:, None, None, None], self.world_from_card[steps][None], self.world_from_wall)
        in_world = transform(body, local[:, None])
        seen = project(transform(invert_pose(self.world_from_camera[steps]), in_world), self.intrinsics)
        visible = np.isfinite(seen).all(-1)
        visible &= (seen[..., :2] >= 0).all(-1) & (seen[..., 0] < self.size[0]) & (seen[..., 1] < self.size[1])
        for column, frame in enumerate(steps):
            nearest, _, _ = self._cast(int(frame), seen[:, column, :2])
            visible[:, column] &= seen[:, column, 2] < nearest + 1e-6
        return seen, visible

    def on_card(self, reference: int, keypoints: Float[np.ndarray, "K 2"]) -> Bool[np.ndarray, " K"]:
        """Whether the points seen at ``keypoints`` of the reference frame lie on the card."""
        return self._cast(reference, keypoints)[2]

    def flow(self, reference: int, keypoints: Float[np.ndarray, "K 2"], horizon: int) -> SceneFlow:
        """The exact scene flow: positions in the camera of the reference frame, whether seen or not."""
        seen, visible = self.tracks(reference, keypoints, horizon)
        in_camera = lift(seen, self.intrinsics)
        in_world = transform(self.world_from_camera[reference : reference + horizon + 1], in_camera)
        in_reference = transform(invert_pose(self.world_from_camera[reference]), in_world)
        uvz = project(in_reference, self.intrinsics) / [*self.size, 1]
        return SceneFlow(uvz, visible, np.asarray(np.isfinite(uvz).all(-1)))

    def _cast(self, frame: int, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Depth of the nearest surface behind image points, the point on it in its body's frame, and whether that is
        the card.
        """
        rays = lift(np.concatenate([pixels, np.ones((*pixels.shape[:-1], 1))], axis=-1), self.intrinsics)
        camera = self.world_from_camera[frame]
        wall_depth, wall_local = _plane_hit(invert_pose(self.world_from_wall) @ camera, rays)
        card_depth, card_local = _plane_hit(invert_pose(self.world_from_card[frame]) @ camera, rays)
        inside = (np.abs(card_local[..., :2]) <= self.half_side).all(-1) & (card_depth > 0)
        on_card = inside & ~(card_depth > wall_depth)
        return (
            np.where(on_card, card_depth, wall_depth),
            np.where(on_card[..., None], card_local, wall_local),
            on_card,
        )


def moving_card(frames: int = 40, size: tuple[int, int] = (160, 120), camera_moves: bool = True) -> RigidWorld:
    """The world that tests and figures use: the card crosses the image and turns; the camera, if it moves, slides and
    pans.
    """
    time = np.linspace(0, 1, frames)
    camera = np.stack([_pose(0, 0.15 * t, 0, (0.12 * t, -0.05 * t, 0.1 * t)) for t in time * camera_moves])
    card = np.stack([_pose(0.2, 0.5 * t - 0.3, 0.6 * t, (0.25 * t - 0.1, 0.1 - 0.15 * t, 0.9 - 0.2 * t)) for t in time])
    wall = _pose(0.15, -0.25, 0, (0, 0, 1.5))
    focal = 0.9 * size[0]
    intrinsics = np.array([[focal, 0, size[0] / 2], [0, focal, size[1] / 2], [0, 0, 1.0]])
    return RigidWorld(intrinsics, size, camera, wall, card)


def _plane_hit(body_from_camera: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersections of rays (z = 1) from the camera with the plane z = 0 of a body: depth (inf if there is none), and
    the point.
    """
    directions = np.einsum("ij,...j->...i", body_from_camera[:3, :3], rays)
    origin = body_from_camera[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = -origin[2] / directions[..., 2]
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.inf)
    reach = np.where(np.isfinite(depth), depth, 0)[..., None]
    return depth, origin + reach * directions


def _texture(x: np.ndarray, y: np.ndarray, on_card: np.ndarray) -> Float[np.ndarray, "*n 3"]:
    """Smooth and nowhere repeating, in [0, 1]."""
    scale = np.where(on_card, 1.7, 1.0)
    waves = [np.sin(scale * (a * x + b * y) + c) for a, b, c in ((19, 10, 0), (-11, 23, 1), (33, -26, 2), (8, 43, 3))]
    grey = 0.5 + np.sum(waves, axis=0) / 10
    tint = np.where(on_card[..., None], [1.0, 0.75, 0.6], [0.8, 0.9, 1.0])
    return np.clip(grey[..., None] * tint, 0, 1)


def _pose(about_x: float, about_y: float, about_z: float, position: tuple[float, float, float]) -> np.ndarray:
    """A pose from angles in radians, turned about x first, then y, then z."""
    (cx, sx), (cy, sy), (cz, sz) = ((np.cos(a), np.sin(a)) for a in (about_x, about_y, about_z))
    x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = z @ y @ x, position
    return pose
