"""Orientations of pictures: how one was made from the upright, unmirrored picture that the camera saw."""

from typing import Literal

Orientation = Literal["upright", "upside-down", "mirrored", "rotated-90", "rotated-180", "rotated-270"]
"""How the stored picture was made from the upright one: rows reversed, columns reversed, or rotated
clockwise.
"""


FLIPS = {
    "upright": (False, False),
    "mirrored": (True, False),
    "upside-down": (False, True),
    "rotated-180": (True, True),
}
"""The orientations that keep a picture's size: whether its columns and its rows are in reverse order. Each is its own
inverse."""
