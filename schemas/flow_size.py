"""Sizes of a window's flow where nobody says others; apart from ``schemas.scene_flow`` so that commands know them
without numpy."""

GRID = 20
"""Keypoints along each side."""
HORIZON = 32
"""Steps."""
