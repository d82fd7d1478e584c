"""Layout and positions of a batch's tokens, computed on the host before anything runs on the device."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import nn
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids


@dataclass(frozen=True)
class Packing:
    """All samples in one row, without padding; flash attention takes this in place of a mask.

    Attributes:
        kept: indices of the row's tokens in the flattened batch.
        boundaries: where each sample begins in the row, and where the last one ends (int32).
        longest: number of tokens of the longest sample.
    """

    kept: Int[torch.Tensor, " S"]
    boundaries: Int[torch.Tensor, " E"]
    longest: int


@dataclass(frozen=True)
class Layout:
    """A batch of texts with images in them.

    Attributes:
        ids: token ids, in the rows that the language model gets: those of the batch, or one row when packed.
        positions: of each token in time, height and width; 0 for padding.
        images: indices of image tokens in the flattened rows, in the order of the images.
        own: true for tokens of the sample, false for padding.
        padded: whether there is any padding in ``ids``.
        packing: None when the samples are not packed.
    """

    ids: Int[torch.Tensor, "R S"]
    positions: Int[torch.Tensor, "3 R S"]
    images: Int[torch.Tensor, " I"]
    own: Bool[torch.Tensor, "B L"]
    padded: bool
    packing: Packing | None

    def to(self, device: torch.device) -> "Layout":
        """Copy to a device without synchronising with it."""
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
    """Compute the layout of tokens on the host.

    Args:
        ids, own: token ids and attention mask from the tokenizer.
        image_token: id of an image token.
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
    """Qwen's multimodal positions. Text positions increase by one per token. All tokens of an image have the same time
    position; their row and column are counted from there. The text after it goes on from the image's longer side."""
    rows, columns = grid
    within = (image.long().cumsum(1) - 1) % (rows * columns) * image
    last = image & (within == rows * columns - 1)
    advance = (own & ~image).long() + last * max(rows, columns)
    start = (advance.cumsum(1) - advance) * own
    return torch.stack([start, start + within // columns, start + within % columns])


class Grid(nn.Module):
    """Position tables for images of one size, computed once. They move with the model but are not saved in its weights.

    Attributes:
        taps: entries of the learned position table between which a patch is interpolated; ``weights`` holds their
            interpolation weights.
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
        """``taps``, ``weights`` and ``places``."""
        return self.taps, self.weights, self.places


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor from the host to a device. The copy from pinned memory to a GPU is asynchronous."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
