"""A policy's input and its checks. Every error message is one sentence; types are checked too, because users call
this."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from lamp_model.data.normalisation import Normaliser
from schemas.errors import first_line


@dataclass(frozen=True)
class Observation:
    """What a policy acts on at one moment, as a caller or client gave it: ``LampPolicy.prepare`` checks it.

    Attributes:
        images: for each of the policy's cameras an upright, unmirrored RGB image, uint8 [height, width, 3].
        instruction: what to do.
        state: proprioception in the convention of the training data.
    """

    images: Any
    instruction: Any
    state: Any


def check_images(images: object, cameras: Sequence[str]) -> None:
    """Refuse anything but one RGB image, uint8 [height, width, 3], for each camera.

    Raises:
        ValueError: the images are not valid.
    """
    if not isinstance(images, list | tuple | np.ndarray):
        raise ValueError(f"the images must be a list of arrays, one for each camera, found {type(images).__name__}")
    if len(images) != len(cameras):
        raise ValueError(f"the policy looks at {len(cameras)} images ({', '.join(cameras)}), found {len(images)}")
    for role, image in zip(cameras, images, strict=True):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            found = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"the image {role!r} must be a uint8 array [height, width, 3] in RGB, found {found}")
        if not image.size:
            raise ValueError(f"the image {role!r} has no pixels: it is {image.shape[0]} high, {image.shape[1]} wide")


def check_instruction(instruction: object) -> None:
    """Refuse an instruction that is not text or is empty.

    Raises:
        ValueError: the instruction is not valid.
    """
    if not isinstance(instruction, str):
        raise ValueError(f"the instruction must be one text, found {type(instruction).__name__}")
    if not instruction.strip().strip(".").strip():
        raise ValueError("the instruction is empty: say in words what the robot is to do")
    if any("\ud800" <= letter <= "\udfff" for letter in instruction):
        raise ValueError(f"the instruction holds half a letter (a lone surrogate): {ascii(instruction)[:80]}")


def check_seed(seed: object) -> None:
    """Refuse seeds that torch's generators do not take.

    Raises:
        ValueError: the seed is no 64-bit integer.
    """
    if not isinstance(seed, Integral) or not -(2**63) <= int(seed) < 2**63:
        raise ValueError(f"the seed must be a whole number of 64 bits, found {seed!r}")


def resized_by_pil(image: UInt8[np.ndarray, "h w 3"], side: int | None) -> UInt8[np.ndarray, "H W 3"]:
    """Resize an image to a square with PIL, as the published code does first; None leaves its size."""
    if side is None:
        return image.copy()  # ascontiguousarray keeps the negative strides of a mirrored image one pixel wide
    return np.array(Image.fromarray(image).resize((side, side)))


def seen_state(state: object, state_range: Normaliser) -> Float[torch.Tensor, "1 S"]:
    """A normalised state, on the CPU.

    Raises:
        ValueError: the state has values that are not finite, or not as many as the range.
    """
    size = state_range.size
    values = _numbers(state, size)
    with np.errstate(over="ignore"):
        told = torch.from_numpy(values.astype(np.float32))
    seen = state_range.normalise(told[None])
    # Check before and after: the published rule turns any last value into 0 or 1, and a narrow range can turn a large
    # value into infinity.
    wrong = ~(told.isfinite() & seen[0].isfinite())
    if wrong.any():
        number = int(wrong.int().argmax())
        raise ValueError(f"the state holds a value that is not finite in float32: number {number} is {values[number]}")
    return seen


def _numbers(state: object, size: int) -> np.ndarray:
    try:
        values = np.asarray(state)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the state must be {size} numbers, found {type(state).__name__}: {first_line(error)}"
        ) from error
    if values.dtype.kind not in "fiub":
        inner = type(values.flat[0]).__name__ if values.size else str(values.dtype)
        raise ValueError(f"the state must be {size} numbers, found {inner}")
    if values.shape != (size,):
        raise ValueError(f"the state must be {size} numbers, found an array of shape {list(values.shape)}")
    return values
