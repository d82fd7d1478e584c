"""Decoding of the pictures that samples store."""

import numpy as np
from jaxtyping import UInt8


def decode_stored_picture(data: bytes) -> UInt8[np.ndarray, "H W 3"] | None:
    """Decode bytes to RGB; None if they are not a picture."""
    import cv2

    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    return None if picture is None else np.ascontiguousarray(picture[..., ::-1])
