"""Resizes and normalises frames for a depth model, and resamples its prediction at the pixels of the frames.

Depth models use two conventions of resizing: pixel *areas* are aligned (a picture covers [0, W], pixel centres at +0.5,
as everywhere in this project), or the centres of the *corner* pixels are aligned. ``restore`` inverts the transform of
``prepare``, so that each prediction is read at the pixel it belongs to.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch.nn import functional

STEEP = 0.2
"""Change of inverse depth from one of the model's pixels to the next, in standard deviations over the frame, that is an
edge and not a slope: the two sides are not mixed there. A share of the spread, because relative inverse depth has no
zero."""
RESAMPLING = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers for ways of resizing, as image processors record them, and torch's names."""


@dataclass(frozen=True)
class Preparation:
    """Preprocessing of a frame for a model.

    Attributes:
        size: target (height, width).
        keep_aspect: scale both sides by the same factor, the one closer to 1.
        multiple: the sides become multiples of this.
        mode: torch's name of the interpolation.
        mean, deviation: of each colour, of values 0..1.
        corners: the picture is first padded by reflection and then resized with corners aligned, as ZoeDepth does; else
            areas are aligned.
    """

    size: tuple[int, int]
    keep_aspect: bool
    multiple: int
    mode: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    corners: bool

    @classmethod
    def of_processor(cls, processor: Any, corners: bool) -> "Preparation":
        """The preprocessing that a model's image processor (transformers) describes.

        Raises:
            ValueError: a setting is not supported.
        """
        mode = RESAMPLING.get(int(processor.resample))
        expected = {"do_resize": True, "do_rescale": True, "do_normalize": True, "do_pad": corners}
        wrong = [
            f"{name}={found}" for name, value in expected.items() if bool(found := getattr(processor, name)) != value
        ]
        if mode is None or wrong or abs(processor.rescale_factor * 255 - 1) > 1e-6:
            said = ", ".join([*wrong, f"resample={processor.resample}", f"rescale_factor={processor.rescale_factor:g}"])
            raise ValueError(f"its image processor has settings that are not known here ({said})")
        return cls(
            size=(int(processor.size["height"]), int(processor.size["width"])),
            keep_aspect=bool(processor.keep_aspect_ratio),
            multiple=max(int(processor.ensure_multiple_of), 1),
            mode=mode,
            mean=tuple(processor.image_mean),
            deviation=tuple(processor.image_std),
            corners=corners,
        )

    def at_height(self, height: int) -> "Preparation":
        """The same preprocessing with another target height and the same proportions."""
        return replace(self, size=(height, round(height * self.size[1] / self.size[0])))

    def prepare(self, frames: UInt8[torch.Tensor, "N H W 3"]) -> Float[torch.Tensor, "N 3 h w"]:
        """The model's input, on the frames' device."""
        pictures = frames.permute(0, 3, 1, 2).float()
        if self.corners:
            rows, columns = (self.padding(side) for side in pictures.shape[2:])
            pictures = functional.pad(pictures, (columns, columns, rows, rows), mode="reflect")
        size = self.size_for(pictures.shape[2], pictures.shape[3])
        if self.corners:
            pictures = functional.interpolate(pictures, size, mode=self.mode, align_corners=True)
        else:
            pictures = functional.interpolate(pictures, size, mode=self.mode, align_corners=False, antialias=True)
            pictures = pictures.round().clamp(0, 255)
        mean, deviation = (torch.tensor(v, device=frames.device)[:, None, None] for v in (self.mean, self.deviation))
        return (pictures / 255 - mean) / deviation

    def padding(self, side: int) -> int:
        """Pixels added on either end of a side (Bhat et al., ZoeDepth, 2023: three times the root of half of it)."""
        return int((side / 2) ** 0.5 * 3) if self.corners else 0

    def size_for(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that a picture of this size is resized to."""
        down, across = self.size[0] / height, self.size[1] / width
        if self.keep_aspect:
            down = across = across if abs(1 - across) < abs(1 - down) else down
        rows, columns = (max(round(n / self.multiple), 1) * self.multiple for n in (down * height, across * width))
        return rows, columns

    def restore(
        self, prediction: Float[torch.Tensor, "N h w"], height: int, width: int
    ) -> Float[torch.Tensor, "N {height} {width}"]:
        """The model's inverse depth at the pixels of frames of this size.

        Interpolation is bilinear in inverse depth, which is exact on a plane. Where the four neighbouring values span a
        depth edge, the nearest value is used.
        """
        places = [
            self._places(*sides, prediction.device) for sides in zip((height, width), prediction.shape[1:], strict=True)
        ]
        (top, down), (left, across) = places
        bottom, right = ((i + 1).clamp(max=n - 1) for i, n in zip((top, left), prediction.shape[1:], strict=True))
        a, b, c, d = (prediction[:, rows[:, None], columns] for rows in (top, bottom) for columns in (left, right))
        upper, lower = a + (b - a) * across, c + (d - c) * across
        smooth = upper + (lower - upper) * down[:, None]
        span = a.maximum(b).maximum(c).maximum(d) - a.minimum(b).minimum(c).minimum(d)
        steep = span > STEEP * prediction.std((1, 2))[:, None, None]
        rows, columns = torch.where(down < 0.5, top, bottom), torch.where(across < 0.5, left, right)
        return torch.where(steep, prediction[:, rows[:, None], columns], smooth)

    def _places(self, side: int, found: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """For each pixel along a frame's side: the index of the prediction's pixel before it, and the fraction of the
        way to the next one.
        """
        pixels = torch.arange(side, device=device, dtype=torch.float64)
        padding = self.padding(side)
        if self.corners:
            place = (pixels + padding) * (found - 1) / (side + 2 * padding - 1)
        else:
            place = (pixels + 0.5) * found / side - 0.5
        place = place.clamp(0, found - 1)
        first = place.floor().clamp(max=max(found - 2, 0))
        return first.long(), (place - first).float()
