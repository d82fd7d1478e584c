"""Decodes encoded pictures (JPEG, PNG) to frames, on demand."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from schemas import jpeg
from schemas.episode import BadEpisode
from schemas.jpeg import decode_jpeg

BLACK_LEVEL = 8
"""Largest value in the pictures of an absent camera: black, up to the errors of JPEG."""


class PictureFiles:
    """Encoded pictures in separate files; each is read on demand."""

    def __init__(self, name: str, paths: Sequence[Path]):
        self.name, self.paths = name, list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> bytes:
        try:
            return self.paths[number].read_bytes()
        except OSError as error:
            said = error.strerror or type(error).__name__
            raise BadEpisode("bad_picture", f"{self.name}: {self.paths[number].name} cannot be read: {said}") from error

    def __iter__(self) -> Iterator[bytes]:
        return (self[number] for number in range(len(self)))


Encoded = Sequence[bytes | memoryview] | PictureFiles
"""Encoded pictures of a camera, ordered by time."""


def decode_picture(
    name: str, encoded: bytes | memoryview, out: UInt8[np.ndarray, "h w 3"] | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """One picture as RGB, as it is stored: an orientation tag is ignored, because the writers of datasets ignored it
    too.

    A damaged JPEG picture is refused if its decoder detects the damage (``schemas.jpeg``).

    Args:
        out: array to write into, if the picture has its size.

    Raises:
        BadEpisode: the bytes are not a picture, or a damaged one.
    """
    if bytes(encoded[:2]) == jpeg.START:
        return _decode_jpeg(name, encoded, out)
    import cv2

    raw = np.frombuffer(encoded, np.uint8)
    try:
        image = cv2.imdecode(raw, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if len(raw) else None
    except cv2.error:
        image = None
    if image is None:
        raise BadEpisode("bad_picture", f"{name} is no JPEG or PNG picture ({len(raw)} bytes)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def _decode_jpeg(
    name: str, encoded: bytes | memoryview, out: UInt8[np.ndarray, "h w 3"] | None
) -> UInt8[np.ndarray, "H W 3"]:
    try:
        return decode_jpeg(encoded, out)
    except ValueError as error:
        raise BadEpisode("bad_picture", f"{name} is a JPEG picture that {error} ({len(encoded)} bytes)") from error


def decode_pictures(
    name: str, encoded: Encoded, wanted: Int[np.ndarray, " N"] | None = None
) -> UInt8[np.ndarray, "N H W 3"]:
    """Pictures of a camera.

    Args:
        wanted: numbers of the pictures; all of them by default.

    Raises:
        BadEpisode: one is not a picture, or they differ in size.
    """
    frames: np.ndarray | None = None
    numbers = range(len(encoded)) if wanted is None else wanted.tolist()
    for place, number in enumerate(numbers):
        goal = None if frames is None else frames[place]
        image = decode_picture(f"{name}, frame {number},", encoded[number], goal)
        if frames is None:
            frames = np.empty((len(numbers), *image.shape), np.uint8)
        if image.shape != frames.shape[1:]:
            raise BadEpisode(
                "bad_picture",
                f"{name}: frame {number} is {image.shape[1]} x {image.shape[0]}, the first is {frames.shape[2]} x "
                f"{frames.shape[1]}",
            )
        if image is not goal:
            frames[place] = image
    if frames is None:
        raise BadEpisode("too_short", f"{name} has no frame")
    return frames


def is_black(name: str, encoded: Encoded, first: UInt8[np.ndarray, "H W 3"]) -> bool:
    """Whether a camera was absent: its first, middle and last frame are black.

    Args:
        first: the first frame, decoded.
    """
    others = sorted({len(encoded) // 2, len(encoded) - 1} - {0})
    return bool(first.max() < BLACK_LEVEL) and all(
        decode_picture(f"{name}, frame {i},", encoded[i]).max() < BLACK_LEVEL for i in others
    )
