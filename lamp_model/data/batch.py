"""A batch of training samples: what the loader makes and the stages take."""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8


@dataclass(frozen=True)
class Batch:
    """Samples side by side, still in the units of the data.

    Attributes:
        images: one tensor for each camera role; upright RGB.
        motion: increments (du, dv, dz), unit square and depth unit; zero where the mask is false.
        motion_mask: both ends of the increment are valid.
        state, actions: in the convention of the data, filled up with zeros where robots of several widths meet; actions
            zero where their mask is false.
        embodiment: number of each sample's robot in the run (``lamp_model.data.embodiments``).
        number: each sample's, in the run's data; -1 where it has none.
        scenes: what is needed to measure a rollout in pixels and metres.
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
        """B."""
        return len(self.instructions)

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device; pictures travel as bytes."""
        moved = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, torch.Tensor):
                moved[field.name] = value.to(device, non_blocking=True)
        images = tuple(image.to(device, non_blocking=True) for image in self.images)
        return replace(self, images=images, **moved)


@dataclass(frozen=True)
class Scene:
    """The measured truth of one sample (see ``schemas.scene_flow`` and ``schemas.cameras``).

    Attributes:
        uvz: positions at steps 0..T.
        size: (width, height) of the image in pixels.
    """

    uvz: Float[np.ndarray, "K S 3"]
    valid: Bool[np.ndarray, "K S"]
    intrinsics: Float[np.ndarray, "3 3"]
    size: tuple[int, int]
    depth_unit: str
