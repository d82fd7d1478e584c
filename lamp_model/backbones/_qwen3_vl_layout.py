"""Where a batch's tokens lie and at which positions they stand, settled on the host before the device is asked for
anything.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids


@dataclass(frozen=True)
class Packing:
    """All samples in one row, without padding: what flash attention takes in place of a mask.

    Attributes:
        kept: places of the row's tokens in the flattened batch.
        boundaries: where in the row each sample begins, and the last ends (int32).
        longest: sample, in tokens.
    """

    kept: Int[torch.Tensor, " S"]
    boundaries: Int[torch.Tensor, " E"]
    longest: int


@dataclass(frozen=True)
class Layout:
    """A batch of texts with images in them.

    Attributes:
        ids: of the tokens, in the rows in which the language model reads them: the batch's, or one when they are
            packed.
        positions: of each token in time, height and width; 0 for padding.
        images: places of image tokens in the flattened rows, in the order of the images.
        own: true for tokens of the sample, false for padding.
        padded: whether there is any padding in ``ids``.
        packing: None when the rows are the batch's.
    """

    ids: Int[torch.Tensor, "R S"]
    positions: Int[torch.Tensor, "3 R S"]
    images: Int[torch.Tensor, " I"]
    own: Bool[torch.Tensor, "B L"]
    padded: bool
    packing: Packing | None

    def to(self, device: torch.device) -> "Layout":
        """On a device, without waiting for what the device is doing."""
        packing = self.packing
        if packing is not None:
            packing = Packing(send(packing.kept, device), send(packing.boundaries, device), packing.longest)
        ids, positions, images = (send(tensor, device) for tensor in (self.ids, self.positions, self.images))
        return Layout(ids, positions, images, send(self.own, device), self.padded, packing)


def lay_out(
    ids: Int[torch.Tensor, "B L"],
    own: Bool[torch.Tensor, "B L"],
    image_token: int,
    grid: tuple[int, int],
    pack: bool,
) -> Layout:
    """The layout of tokens that lie on the host.

    Args:
        ids, own: as the tokenizer made them.
        image_token: that stands for a piece of an image.
        grid: rows and columns of tokens of every image.
        pack: leave padding out, if there is any, and put all samples into one row.
    """
    image = ids == image_token
    positions = _positions(image, own, grid)
    padded = not bool(own.all())
    if not (pack and padded):
        return Layout(ids, positions, image.flatten().nonzero()[:, 0], own, padded, None)
    lengths = own.sum(1)
    boundaries = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()
    packing = Packing(own.flatten().nonzero()[:, 0], boundaries, int(lengths.max()))
    return Layout(ids[own][None], positions[:, own][:, None], image[own].nonzero()[:, 0], own, False, packing)


def _positions(
    image: Bool[torch.Tensor, "B L"], own: Bool[torch.Tensor, "B L"], grid: tuple[int, int]
) -> Int[torch.Tensor, "3 B L"]:
    """Qwen's multimodal positions: words count on; an image's tokens all stand at one time and at their row and column
    from there, and what comes after counts on from the image's longer side."""
    rows, columns = grid
    within = (image.long().cumsum(1) - 1) % (rows * columns) * image
    last = image & (within == rows * columns - 1)
    advance = (own & ~image).long() + last * max(rows, columns)
    start = (advance.cumsum(1) - advance) * own
    return torch.stack([start, start + within // columns, start + within % columns])


class Grid(nn.Module):
    """What every image of one size has in common, made once; it moves with the model and is no part of its weights.

    Attributes:
        taps: entries of the learned position table between which a patch lies, and ``weights``: how much each of them
            counts.
        places: row and column of a patch.
    """

    taps: torch.Tensor
    weights: torch.Tensor
    places: torch.Tensor

    def __init__(self, rows: int, columns: int, visual: Any):
        super().__init__()
        grid, merge = torch.tensor([[1, rows, columns]], device="cpu"), visual.spatial_merge_size
        taps, weights = get_vision_interpolation_indices_and_weights(
            grid,
            visual.num_grid_per_side,
            mode=visual.interpolation_mode,
            align_corners=visual.interpolation_align_corners,
            spatial_merge_size=merge,
        )
        self.register_buffer("taps", taps, persistent=False)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("places", get_vision_position_ids(grid, merge), persistent=False)

    def tables(self) -> tuple[Int[torch.Tensor, "T N"], Float[torch.Tensor, "T N"], Int[torch.Tensor, "T 2"]]:
        """All three."""
        return self.taps, self.weights, self.places


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Bring a tensor from the host to a device. From pinned memory nobody has to wait for a GPU to become idle."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
