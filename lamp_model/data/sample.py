"""Converts triplets to batches of one sample, and stacks these."""

from dataclasses import dataclass
from math import isqrt

import numpy as np
import torch

from lamp_model.data.augmentation import Augmentation
from lamp_model.data.batch import Batch, Scene
from lamp_model.errors import BadSample
from lamp_model.networks.image_resize import resize
from schemas.cameras import flipped_intrinsics
from schemas.jpeg import decode_jpeg
from schemas.orientation import flipped
from schemas.retargeting import retarget
from schemas.scene_flow import SceneFlow
from schemas.shard_formats import CorruptShard
from schemas.triplet import Triplet

MOTION_ROLE = "image"
"""The camera whose image the motion is in."""
JOINED = ("motion", "motion_mask", "state", "actions", "action_mask", "embodiment", "number")


@dataclass(frozen=True)
class SampleConfig:
    """What is taken from a triplet.

    Attributes:
        cameras: roles of the images.
        chunk: number of actions, from the first.
        points, horizon: of the flow: every n-th keypoint along each side, and the number of steps, from the first.
        standard: take the standard actions, not the raw ones.
        embodiment: number of the sample's robot in the run (``lamp_model.data.embodiments``).
        state_size, action_size: widths to which states and actions are padded with zeros; None: no padding.
        image_size: side in pixels to which images are resized, where a batch mixes sizes; None: no resizing.
        black: roles that these samples do not have; a black image takes their place.
        generated: also take instructions that a model wrote.
        retargeted: take the flow in equal steps of distance (``schemas.retargeting``).
        flips: whether the columns and the rows of images and flow are put in reverse order.
    """

    cameras: tuple[str, ...]
    chunk: int
    points: int
    horizon: int
    standard: bool = False
    embodiment: int = 0
    state_size: int | None = None
    action_size: int | None = None
    image_size: int | None = None
    black: tuple[str, ...] = ()
    generated: bool = False
    retargeted: bool = False
    flips: tuple[bool, bool] = (False, False)


def texts_of(triplet: Triplet, config: SampleConfig) -> tuple[str, ...]:
    """The instructions that may be learnt from, the dataset's own first; one empty text where there is none."""
    generated = tuple(g.text for g in triplet.generated_instructions) if config.generated else ()
    return (*triplet.instructions, *generated) or ("",)


def to_sample(
    triplet: Triplet, config: SampleConfig, instruction: str, number: int = -1, change: Augmentation | None = None
) -> Batch:
    """Convert a triplet to a batch of one sample.

    Args:
        number: of the sample in the run's data.
        change: random changes of its images, and of its motion and camera with them.

    Raises:
        BadSample: the triplet does not fit the model; the message names its key.
    """
    check_fits(triplet, config)
    actions, action_mask = _actions(triplet, config)
    stored, intrinsics = triplet.flow, triplet.camera.intrinsics
    if change is not None and MOTION_ROLE in change.crops:
        crop = change.crops[MOTION_ROLE]
        stored = crop.flow(stored, intrinsics, triplet.camera.size)
        intrinsics = crop.intrinsics(intrinsics, triplet.camera.size)
    flow = _taken_flow(stored, config)
    if config.retargeted:
        flow = retarget(flow, intrinsics, triplet.camera.size)
    intrinsics = flipped_intrinsics(intrinsics, triplet.camera.size, *config.flips)
    if any(config.flips):
        flow = flow.flipped(*config.flips)
    motion, mask = flow.increments(seen_only=True)
    scene = Scene(
        uvz=flow.uvz,
        valid=flow.valid,
        intrinsics=intrinsics,
        size=triplet.camera.size,
        depth_unit=triplet.depth_unit,
    )
    return Batch(
        images=tuple(torch.from_numpy(_image(triplet, role, config, change))[None] for role in config.cameras),
        instructions=(instruction,),
        motion=torch.from_numpy(motion.astype(np.float32))[None],
        motion_mask=torch.from_numpy(mask)[None],
        state=torch.from_numpy(_filled(triplet, "state", triplet.state, config.state_size))[None],
        actions=torch.from_numpy(_filled(triplet, "actions", actions[: config.chunk], config.action_size))[None],
        action_mask=torch.from_numpy(action_mask[: config.chunk].copy())[None],
        embodiment=torch.tensor([config.embodiment]),
        number=torch.tensor([number]),
        scenes=(scene,),
    )


def _taken_flow(flow: SceneFlow, config: SampleConfig) -> SceneFlow:
    """The flow of the keypoints and steps that are learnt.

    Of a grid that is n times finer, the keypoints nearest the middle of each n x n are taken (the upper left one of the
    middle four where n is even).
    """
    grid, steps = isqrt(flow.uvz.shape[0]), config.horizon + 1
    every = grid // isqrt(config.points)
    rows = np.arange((every - 1) // 2, grid, every)
    taken = (rows[:, None] * grid + rows).ravel()
    return SceneFlow(flow.uvz[taken, :steps], flow.visible[taken, :steps], flow.valid[taken, :steps])


def _actions(triplet: Triplet, config: SampleConfig) -> tuple[np.ndarray, np.ndarray]:
    """Actions and mask, in the form that is learnt."""
    if not config.standard:
        return triplet.actions, triplet.action_mask
    if triplet.standard_actions is None:
        raise BadSample(
            f"sample {triplet.key} has no standard actions, others of its set have: train with --actions raw, or "
            "build it again"
        )
    return triplet.standard_actions.values, triplet.standard_actions.mask


def _filled(triplet: Triplet, name: str, values: np.ndarray, size: int | None) -> np.ndarray:
    """The values as float32, padded with zeros to a size."""
    missing = 0 if size is None else size - values.shape[-1]
    if missing < 0:
        raise BadSample(
            f"sample {triplet.key} has {name} of {values.shape[-1]} numbers, its statistics of {size}: build it again"
        )
    return np.pad(values.astype(np.float32), [(0, 0)] * (values.ndim - 1) + [(0, missing)])


def _image(triplet: Triplet, role: str, config: SampleConfig, change: Augmentation | None) -> np.ndarray:
    """An image for the batch: at its own size, or resized in the same way as the backbone's first resize."""
    side = config.image_size
    if role in config.black:
        reference = decode_image(triplet, "image").shape if side is None else (side, side, 3)
        return np.zeros(reference, np.uint8)
    image = decode_image(triplet, role)
    if change is not None:
        image = change.image(role, image)
    image = np.ascontiguousarray(flipped(image, *config.flips))
    if side is None or image.shape[:2] == (side, side):
        return image
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    return resize(pixels, (side, side))[0].permute(1, 2, 0).byte().contiguous().numpy()


def check_fits(triplet: Triplet, config: SampleConfig) -> None:
    """Refuse a triplet that the model cannot take.

    Raises:
        BadSample: the triplet does not fit; the message says what was expected and found, and names its key.
    """
    points, steps = triplet.flow.uvz.shape[0], triplet.flow.horizon
    if isqrt(points) % isqrt(config.points) or steps < config.horizon:
        raise BadSample(
            f"sample {triplet.key} has flow of {points} points over {steps} steps, the model needs {config.points} "
            f"over {config.horizon}: build the shards with that grid and horizon"
        )
    if len(triplet.actions) < config.chunk:
        raise BadSample(
            f"sample {triplet.key} has {len(triplet.actions)} actions, the model predicts {config.chunk}: "
            "build the shards with more actions, or train with a smaller chunk"
        )


def decode_image(triplet: Triplet, role: str) -> np.ndarray:
    """An image of a triplet as upright RGB, uint8 [H, W, 3].

    Raises:
        BadSample: the triplet has no such image.
        CorruptShard: the image does not decode.
    """
    if role not in triplet.images:
        raise BadSample(
            f"sample {triplet.key} has no image {role!r}, others of its set have: they cannot be trained together"
        )
    try:
        return decode_jpeg(triplet.images[role])
    except ValueError as error:
        raise CorruptShard(f"sample {triplet.key}: the image {role!r} is a JPEG picture that {error}") from error


def collate(samples: list[Batch]) -> Batch:
    """Stack samples to a batch.

    Raises:
        BadSample: their images, states or actions differ in size.
    """

    def joined(name: str) -> torch.Tensor:
        return torch.cat([getattr(sample, name) for sample in samples])

    try:
        return Batch(
            images=tuple(torch.cat(camera) for camera in zip(*(s.images for s in samples), strict=True)),
            instructions=tuple(text for s in samples for text in s.instructions),
            scenes=tuple(scene for s in samples for scene in s.scenes),
            **{name: joined(name) for name in JOINED},
        )
    except RuntimeError as error:
        raise BadSample(f"samples of different sizes cannot be trained together: {error}") from error
