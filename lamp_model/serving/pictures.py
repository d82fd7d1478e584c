"""Decodes pictures that clients send."""

import io
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from schemas.errors import first_line

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Plain raster formats. Pillow opens others with programs of the system."""
MOST_PIXELS = 2**24
"""Of one picture; a small file can hold a huge one."""


def decode_picture(data: Any) -> UInt8[np.ndarray, "H W 3"]:
    """An encoded picture as RGB.

    Raises:
        ValueError: it does not decode, is of no format above, or is too large.
    """
    if not isinstance(data, bytes):
        raise ValueError(f"an encoded picture must be bytes, found {type(data).__name__}")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MOST_PIXELS:
                raise ValueError(f"it is {width} x {height} pixels, and at most {MOST_PIXELS} are taken")
            return np.array(picture.convert("RGB"))
    except UnidentifiedImageError as error:  # its message names an object in memory
        raise ValueError(f"a picture of {len(data)} bytes does not decode: it is no {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise ValueError(f"a picture does not decode: {first_line(error, 200)}") from error


def checked_array(data: Any, dtype: Any, shape: Any) -> np.ndarray:
    """A writable array of numbers from its bytes.

    Raises:
        ValueError: bytes, type and shape do not fit together, or it holds no plain numbers.
    """
    try:
        kind = np.dtype(dtype)
        if kind.kind not in "biuf" or kind.subdtype is not None:
            raise ValueError(f"its type is {kind}")
        return np.frombuffer(data, kind).reshape([int(side) for side in shape]).copy()
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"an array does not decode: {first_line(error, 200)}") from error
