"""Default sizes of a window's flow; kept apart from ``schemas.scene_flow`` so that commands can import them without
numpy."""

GRID = 20
"""Keypoints along each side."""
HORIZON = 32
"""Steps."""
