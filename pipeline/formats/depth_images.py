"""Depth stored as 16-bit pictures, one number per pixel."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt16

from schemas.episode import BadEpisode


def decode_depth_pictures(
    name: str, encoded: Sequence[bytes | memoryview], wanted: Int[np.ndarray, " N"]
) -> UInt16[np.ndarray, "N H W"]:
    """Decode the wanted depth pictures of a camera, as they are stored.

    Raises:
        BadEpisode: one is not a 16-bit picture with one channel, or they differ in size.
    """
    import cv2

    maps = []
    for number in wanted.tolist():
        data = encoded[number]
        raw = np.frombuffer(data, np.uint8)
        image = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED) if len(raw) else None
        if image is None or image.dtype != np.uint16 or image.ndim != 2:
            raise BadEpisode("bad_depth", f"{name}, frame {number}, is no depth picture of 16 bits ({len(raw)} bytes)")
        if image.shape != (maps[0] if maps else image).shape:
            raise BadEpisode("bad_depth", f"{name}: frame {number} is of another size than the first")
        maps.append(image)
    return np.stack(maps)
