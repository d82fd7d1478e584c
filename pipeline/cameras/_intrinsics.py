"""Intrinsics that are known without estimation: from the dataset, from a given field of view, or from the kind of
camera.
"""

import numpy as np
from jaxtyping import Float

from schemas.cameras import intrinsics_from_fov
from schemas.episode import CameraView


def check_fov(name: str, fov_y: float | None) -> None:
    """Refuse a vertical field of view that no pinhole camera has.

    Raises:
        ValueError: naming the option.
    """
    if fov_y is not None and not 0 < fov_y < 180:
        raise ValueError(f"{name}.fov_y must lie between 0 and 180 degrees, found {fov_y:g}")


def known_intrinsics(view: CameraView, fov_y: float | None) -> tuple[Float[np.ndarray, "3 3"], str] | None:
    """Intrinsics and their source; None if neither the dataset, nor the option ``fov_y`` (degrees), nor the kind of
    camera gives them.
    """
    if view.intrinsics is not None:
        return view.intrinsics, view.intrinsics_source
    if fov_y is not None:
        words = f"vertical field of view of {fov_y:g} degrees, as configured"
        return intrinsics_from_fov(fov_y, *view.size), words
    if view.kind is not None:
        words = (
            f"typical of a {view.kind.name} (vertical field of view of {view.kind.fov_y_degrees:g} degrees), not "
            "measured"
        )
        return view.kind.intrinsics(view.size), words
    return None
