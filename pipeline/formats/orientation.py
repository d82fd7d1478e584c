"""Views of pictures that are stored rotated or mirrored, as views of upright ones."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Int, Shaped

from schemas.episode import CameraView, RecordedDepth
from schemas.flips import upright
from schemas.orientation import Orientation

Read = Callable[[], Shaped[np.ndarray, " T H W *c"]]
Some = Callable[[np.ndarray], Shaped[np.ndarray, " N H W *c"]]


def upright_view(view: CameraView, orientation: Orientation) -> CameraView:
    """A view of stored pictures as one of upright pictures, recorded depth with them. It has no intrinsics yet.

    Args:
        view: a view without intrinsics, because intrinsics belong to upright pictures.
    """
    assert view.intrinsics is None, "intrinsics belong to upright pictures"
    if orientation == "upright":
        return view
    width, height = view.size
    depth = view.depth
    if depth is not None:
        read, some = partial(_read_upright, depth.read, orientation), partial(_some_upright, depth.some, orientation)
        depth = RecordedDepth(read, depth.unit, depth.description, some)
    return replace(
        view,
        read_frames=partial(_read_upright, view.read_frames, orientation),
        size=(height, width) if orientation in ("rotated-90", "rotated-270") else view.size,
        depth=depth,
        read_some=partial(_some_upright, view.some_frames, orientation),
    )


def _read_upright(read: Read, orientation: Orientation) -> Shaped[np.ndarray, " T h w *c"]:
    return upright(read(), orientation)


def _some_upright(
    some: Some, orientation: Orientation, frames: Int[np.ndarray, " N"]
) -> Shaped[np.ndarray, " N h w *c"]:
    return upright(some(frames), orientation)
