"""Resizes batches of images on the device, before the backbone."""

import torch
from jaxtyping import Float
from torch.nn import functional


def resize(images: Float[torch.Tensor, "N 3 _ _"], size: tuple[int, int]) -> Float[torch.Tensor, "N 3 _ _"]:
    """Resize images with values 0..255 as PIL does by default: bicubic, with antialiasing when it shrinks.

    PIL resizes along the rows and rounds, then along the columns and rounds again. This does the same; a few per cent
    of the values still differ by one or two levels, where the exact result lies half-way between two levels.
    """
    for target in ((images.shape[2], size[1]), tuple(size)):
        if tuple(images.shape[-2:]) != target:
            images = functional.interpolate(images, target, mode="bicubic", align_corners=False, antialias=True)
            images = (images + 0.5).floor().clamp(0, 255)
    return images
