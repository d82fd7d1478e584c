"""Writes triplets into the rows of a batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt

import numpy as np
import torch
from jaxtyping import Bool, Float32

from lamp_model.data.assembly import IMAGE, BatchArrays, Row
from lamp_model.data.augmentation import Augmentation
from lamp_model.data.batch import Batch, Scene
from lamp_model.errors import BadSample
from lamp_model.networks.image_resize import resize
from schemas.cameras import flipped_intrinsics
from schemas.flips import flipped
from schemas.jpeg import decode_jpeg, jpeg_size
from schemas.retargeting import retarget
from schemas.scene_flow import SceneFlow, no_flow
from schemas.shard_formats import CorruptShard
from schemas.triplet import Triplet

MOTION_ROLE = "image"
"""The camera whose image the motion is in."""
MakeRow = Callable[[str, tuple[int, ...], type], np.ndarray]
"""The memory of a sample in the array of a name, given its shape and type."""


@dataclass(frozen=True)
class SampleConfig:
    """What is taken from a triplet.

    Attributes:
        cameras: roles of the images.
        chunk: number of actions, from the first.
        points, horizon: of the flow: every n-th keypoint along each side, and the number of steps, from the first;
            both 0 where no flow is learnt.
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
    arrays = BatchArrays(1)
    return arrays.batch([write_sample(arrays, 0, triplet, config, instruction, number, change)])


def write_sample(
    arrays: BatchArrays,
    place: int,
    triplet: Triplet,
    config: SampleConfig,
    instruction: str,
    number: int,
    change: Augmentation | None = None,
) -> Row:
    """Write a triplet to its place in a batch.

    Args:
        number: of the sample in the run's data.
        change: random changes of its images, and of its motion and camera with them.

    Raises:
        BadSample: the triplet does not fit the model, or the others of the batch; the message names its key.
        CorruptShard: an image does not decode.
    """
    check_fits(triplet, config)

    def row(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        return arrays.row(name, place, shape, dtype, triplet.key)

    for role in config.cameras:
        _write_image(arrays, place, triplet, role, config, change)
    scene = _write_flow(row, triplet, config, change)
    actions, action_mask = _actions(triplet, config)
    _write_padded(row, "state", triplet, triplet.state, config.state_size)
    _write_padded(row, "actions", triplet, actions[: config.chunk], config.action_size)
    row("action_mask", (config.chunk,), np.bool_)[:] = action_mask[: config.chunk]
    row("embodiment", (), np.int64)[...] = config.embodiment
    row("number", (), np.int64)[...] = number
    return Row(config.cameras, instruction, scene)


def _write_flow(row: MakeRow, triplet: Triplet, config: SampleConfig, change: Augmentation | None) -> Scene:
    """Write the increments and their mask; the ground truth of the sample."""
    stored, intrinsics = triplet.flow, triplet.camera.intrinsics
    if change is not None and MOTION_ROLE in change.crops:
        crop = change.crops[MOTION_ROLE]
        stored = crop.flow(stored, intrinsics, triplet.camera.size) if config.points else stored
        intrinsics = crop.intrinsics(intrinsics, triplet.camera.size)
    flow = _taken_flow(stored, config) if config.points else no_flow()
    if config.retargeted:
        flow = retarget(flow, intrinsics, triplet.camera.size)
    intrinsics = flipped_intrinsics(intrinsics, triplet.camera.size, *config.flips)
    if any(config.flips):
        flow = flow.flipped(*config.flips)
    shape = (config.points, config.horizon)
    write_increments(flow, row("motion", (*shape, 3), np.float32), row("motion_mask", shape, np.bool_))
    return Scene(flow.uvz, flow.valid, intrinsics, triplet.camera.size, triplet.depth_unit)


def write_increments(flow: SceneFlow, motion: Float32[np.ndarray, "K T 3"], mask: Bool[np.ndarray, "K T"]) -> None:
    """Write ``flow.increments(seen_only=True)``, bit for bit, a few times faster where flow lies as it was decoded."""
    import cv2

    usable = flow.valid & flow.visible
    np.logical_and(usable[:, 1:], usable[:, :-1], out=mask)
    if not mask.size:
        return
    steps = np.ascontiguousarray(flow.uvz.transpose(1, 2, 0))  # [S, 3, K], the order in which flow is decoded
    moved = (steps[1:] - steps[:-1]).astype(np.float32, copy=False)
    bits = moved.view(np.int32)
    np.bitwise_and(bits, np.negative(mask.T, dtype=np.int32, casting="unsafe")[:, None], out=bits)
    points = len(mask)
    cv2.transpose(moved.reshape(-1, points), dst=motion.reshape(points, -1))


def _taken_flow(flow: SceneFlow, config: SampleConfig) -> SceneFlow:
    """The flow of the keypoints and steps that are learnt.

    Of a grid that is n times finer, the keypoints nearest the middle of each n x n are taken (the upper left one of the
    middle four where n is even).
    """
    grid, steps = isqrt(flow.uvz.shape[0]), config.horizon + 1
    every = grid // isqrt(config.points)
    if every == 1:
        return SceneFlow(flow.uvz[:, :steps], flow.visible[:, :steps], flow.valid[:, :steps])
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


def _write_padded(row: MakeRow, name: str, triplet: Triplet, values: np.ndarray, size: int | None) -> None:
    """Write values, padded with zeros to a size."""
    width = values.shape[-1]
    if size is not None and width > size:
        raise BadSample(f"sample {triplet.key} has {name} of {width} numbers, its statistics of {size}: build it again")
    target = row(name, (*values.shape[:-1], width if size is None else size), np.float32)
    target[..., :width] = values
    target[..., width:] = 0


def _write_image(
    arrays: BatchArrays, place: int, triplet: Triplet, role: str, config: SampleConfig, change: Augmentation | None
) -> None:
    """Write an image: at its own size, or resized in the same way as the backbone's first resize."""
    side = config.image_size

    def target(size: tuple[int, int]) -> np.ndarray:
        return arrays.row(IMAGE + role, place, (*size, 3), np.uint8, triplet.key)

    if role in config.black:
        target(_image_size(triplet, "image") if side is None else (side, side))[...] = 0
        return
    size = _image_size(triplet, role)
    if change is not None or any(config.flips) or (side is not None and size != (side, side)):
        image = _adjusted(decode_image(triplet, role), role, config, change)
        target((image.shape[0], image.shape[1]))[...] = image
    else:
        decode_image(triplet, role, target(size))


def _adjusted(image: np.ndarray, role: str, config: SampleConfig, change: Augmentation | None) -> np.ndarray:
    """An image changed, turned and resized as the config says."""
    if change is not None:
        image = change.image(role, image)
    image = np.ascontiguousarray(flipped(image, *config.flips))
    side = config.image_size
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
    if config.points and not triplet.has_flow:
        raise BadSample(
            f"sample {triplet.key} has no flow, which is to be learnt: build it with another --flow than none"
        )
    if config.points and (isqrt(points) % isqrt(config.points) or steps < config.horizon):
        raise BadSample(
            f"sample {triplet.key} has flow of {points} points over {steps} steps, the model needs {config.points} "
            f"over {config.horizon}: build the shards with that grid and horizon"
        )
    if len(triplet.actions) < config.chunk:
        raise BadSample(
            f"sample {triplet.key} has {len(triplet.actions)} actions, the model predicts {config.chunk}: "
            "build the shards with more actions, or train with a smaller chunk"
        )


def decode_image(triplet: Triplet, role: str, out: np.ndarray | None = None) -> np.ndarray:
    """An image of a triplet as upright RGB, uint8 [H, W, 3].

    Args:
        out: array of that shape to write to.

    Raises:
        BadSample: the triplet has no such image.
        CorruptShard: the image does not decode.
    """
    with _naming(triplet, role) as data:
        return decode_jpeg(data, out)


def _image_size(triplet: Triplet, role: str) -> tuple[int, int]:
    """(height, width) of an image, without decoding it. Raises as ``decode_image``."""
    with _naming(triplet, role) as data:
        return jpeg_size(data)


@contextmanager
def _naming(triplet: Triplet, role: str) -> Iterator[bytes]:
    """The encoded image; errors of decoding it name the sample and the image."""
    if role not in triplet.images:
        raise BadSample(
            f"sample {triplet.key} has no image {role!r}, others of its set have: they cannot be trained together"
        )
    try:
        yield triplet.images[role]
    except ValueError as error:
        raise CorruptShard(f"sample {triplet.key}: the image {role!r} is a JPEG picture that {error}") from error
