"""JPEG pictures to pixels: the one decoder of datasets' pictures and of those in shards."""

import numpy as np
from jaxtyping import UInt8

START = b"\xff\xd8"
MOST_PIXELS = 100_000_000
"""Of a picture; one that claims more is refused before there is memory for it."""


def decode_jpeg(
    encoded: bytes | memoryview, out: UInt8[np.ndarray, "h w 3"] | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """A JPEG picture as RGB, as it is stored: an orientation tag is not followed.

    Damage is refused where libjpeg-turbo notices it; most decoders warn and fill up with grey. (JPEG has no checksum;
    damage that gives another valid picture cannot be noticed.)

    Args:
        out: where to put it, if it has that size.

    Raises:
        ValueError: the bytes are no JPEG picture, or a damaged one; the message goes on after "a JPEG picture that".
    """
    import simplejpeg

    try:
        height, width = (int(size) for size in simplejpeg.decode_jpeg_header(encoded)[:2])
        if height * width > MOST_PIXELS:
            raise ValueError(f"it claims {width} x {height} pixels")
        goal = out if out is not None and out.shape[:2] == (height, width) else None
        made = simplejpeg.decode_jpeg(encoded, "RGB", strict=True, buffer=goal)
    except ValueError as error:
        raise ValueError("was cut short" if "remature end" in str(error) else f"is damaged: {error}") from error
    return made if goal is None else goal
