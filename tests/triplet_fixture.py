"""Triplets with everything in them, made from a seed."""

import cv2
import numpy as np

from schemas.episode import ActionConvention
from schemas.perception import DepthAlignment
from schemas.scene_flow import SceneFlow, keypoint_grid
from schemas.triplet import ActionChunk, CameraOfWindow, GeneratedInstruction, Source, Triplet, triplet_key

CONVENTION = ActionConvention("test_delta", ("x", "y", "gripper"), "for tests: gripper -1 open, +1 close")
STANDARD = ActionConvention("test_standard", ("x", "y", "z", "gripper"), "for tests: gripper 1 open, 0 closed")


def make_triplet(
    seed: int = 0,
    *,
    episode: str = "0123456789abcdef",
    frame: int | None = None,
    grid: int = 20,
    steps: int = 32,
    moving_camera: bool = False,
    wrist: bool = True,
    noise_px: float = 0.5,
    size: tuple[int, int] = (128, 96),
    standard: bool = True,
) -> Triplet:
    """A valid triplet; equal arguments give equal triplets."""
    rng = np.random.default_rng(seed)
    frame = seed * 5 if frame is None else frame
    points = grid * grid
    uvz = np.empty((points, steps + 1, 3))
    uvz[..., :2] = (keypoint_grid(*size, grid) / size)[:, None]
    uvz[..., 2] = rng.uniform(0.5, 2, (points, 1))
    walk = rng.normal(size=(points, steps, 3)) * [noise_px / size[0], noise_px / size[1], 0.004]
    walk[points // 4 :] = 0  # most points of a robot scene stand still
    uvz[:, 1:] += np.cumsum(walk, axis=1)
    visible = rng.random((points, steps + 1)) < 0.95
    visible[:, 0] = True
    valid = visible & (rng.random((points, steps + 1)) < 0.97)
    valid[:, 0] = rng.random(points) < 0.98
    pose = np.tile(np.eye(4), (steps + 1 if moving_camera else 1, 1, 1))
    pose[:, :3, 3] = rng.normal(size=(len(pose), 3))
    images = {"image": _jpeg(rng, size)}
    if wrist:
        images["wrist"] = _jpeg(rng, (64, 64))
    mask = np.arange(16) < rng.integers(4, 17)
    return Triplet(
        key=triplet_key(episode, "front", frame),
        episode=episode,
        source=Source("test", "folder/file.hdf5", "demo_1", "front", frame),
        images=images,
        instructions=("pick up the bowl", "take the “bowl”, bitte schön"),
        flow=SceneFlow(uvz, visible, valid),
        point_flags=rng.integers(0, 32, points).astype(np.uint8),
        depth_unit="m",
        depth_source="recorded: made for a test",
        flow_source="lk",
        camera=CameraOfWindow(size, np.array([[99.5, 0, 64], [0, 98.25, 48], [0, 0, 1]]), pose, "given", "given"),
        state=rng.normal(size=5).astype(np.float32),
        state_names=("x", "y", "z", "left", "right"),
        actions=np.where(mask[:, None], rng.normal(size=(16, 3)), 0).astype(np.float32),
        action_mask=mask,
        action_convention=CONVENTION,
        fps=20.0,
        success=True,
        quality={"valid_share": 0.875, "steps": 32.0},
        generated_instructions=(GeneratedInstruction("please take the bowl", "request", "some/model at 0123"),),
        standard_actions=ActionChunk(rng.normal(size=(16, 4)).astype(np.float32), mask[::-1].copy(), STANDARD)
        if standard
        else None,
        depth_alignment=DepthAlignment("robot", 0.5, 0.01, 0.012, "m", 120, 0.9) if seed % 2 else None,
    )


def _jpeg(rng: np.random.Generator, size: tuple[int, int]) -> bytes:
    small = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", cv2.resize(small, size, interpolation=cv2.INTER_CUBIC))[1].tobytes()


def same(a, b) -> bool:
    """Deep equality, arrays and their types included."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(getattr(a, f), getattr(b, f)) for f in a.__dataclass_fields__)
    return type(a) is type(b) and a == b
