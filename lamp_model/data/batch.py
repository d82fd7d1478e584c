"""A batch of training samples, as the loader returns it and the stages take it."""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8


@dataclass(frozen=True)
class Batch:
    """Stacked samples, in the units of the data (not normalised).

    Attributes:
        images: one tensor for each camera role; upright RGB.
        motion: increments (du, dv, dz), unit square and depth unit; zero where the mask is false.
        motion_mask: true where both ends of the increment are valid.
        state, actions: in the convention of the data, padded with zeros where robots have different widths; actions
            are zero where their mask is false.
        embodiment: number of each sample's robot in the run (``lamp_model.data.embodiments``).
        number: of each sample in the run's data; -1 where it has none.
        scenes: the ground truth for errors of a rollout in pixels and metres.
    """

    images: tuple[UInt8[torch.Tensor, "B _ _ 3"], ...]
    instructions: tuple[str, ...]
    motion: Float[torch.Tensor, "B K T 3"]
    motion_mask: Bool[torch.Tensor, "B K T"]
    state: Float[torch.Tensor, "B S"]
    actions: Float[torch.Tensor, "B H A"]
    action_mask: Bool[torch.Tensor, "B H"]
    embodiment: Int[torch.Tensor, " B"]
    number: Int[torch.Tensor, " B"]
    scenes: tuple["Scene", ...]

    @property
    def size(self) -> int:
        """B, the number of samples."""
        return len(self.instructions)

    def rows(self, first: int, last: int) -> "Batch":
        """The samples at places first..last - 1."""
        taken = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "images":
                taken[field.name] = value[first:last]
        return replace(self, images=tuple(image[first:last] for image in self.images), **taken)

    def to(self, device: torch.device) -> "Batch":
        """Copy the batch to a device; images are copied as uint8."""
        moved = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, torch.Tensor):
                moved[field.name] = value.to(device, non_blocking=True)
        images = tuple(image.to(device, non_blocking=True) for image in self.images)
        return replace(self, images=images, **moved)


@dataclass(frozen=True)
class Scene:
    """The ground truth of one sample (see ``schemas.scene_flow`` and ``schemas.cameras``).

    Attributes:
        uvz: positions at steps 0..T.
        size: (width, height) of the image in pixels.
    """

    uvz: Float[np.ndarray, "K S 3"]
    valid: Bool[np.ndarray, "K S"]
    intrinsics: Float[np.ndarray, "3 3"]
    size: tuple[int, int]
    depth_unit: str
