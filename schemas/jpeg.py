"""JPEG pictures to pixels: the only decoder, for datasets' pictures and for those in shards."""

import numpy as np
from jaxtyping import UInt8

START = b"\xff\xd8"
MOST_PIXELS = 100_000_000
"""Limit of a picture's size; one that declares more is refused before memory is allocated."""


def jpeg_size(encoded: bytes | memoryview) -> tuple[int, int]:
    """(height, width) of a JPEG picture in pixels, from its header.

    Raises:
        ValueError: as ``decode_jpeg``.
    """
    import simplejpeg

    try:
        height, width = (int(size) for size in simplejpeg.decode_jpeg_header(encoded)[:2])
        if height * width > MOST_PIXELS:
            raise ValueError(f"it claims {width} x {height} pixels")
    except ValueError as error:
        raise ValueError(f"is damaged: {error}") from error
    return height, width


def decode_jpeg(
    encoded: bytes | memoryview, out: UInt8[np.ndarray, "h w 3"] | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """A JPEG picture as RGB, as it is stored: an orientation tag is ignored.

    Damage is refused where libjpeg-turbo notices it; most decoders only warn and fill the rest with grey. (JPEG has no
    checksum; damage that gives another valid picture cannot be detected.)

    Args:
        out: array to write to, if it has the right size.

    Raises:
        ValueError: the bytes are no JPEG picture, or a damaged one; the message continues "a JPEG picture that".
    """
    import simplejpeg

    size = jpeg_size(encoded)
    goal = out if out is not None and out.shape[:2] == size else None
    try:
        made = simplejpeg.decode_jpeg(encoded, "RGB", strict=True, buffer=goal)
    except ValueError as error:
        raise ValueError("was cut short" if "remature end" in str(error) else f"is damaged: {error}") from error
    return made if goal is None else goal
