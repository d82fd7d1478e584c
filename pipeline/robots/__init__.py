"""Robots as their makers describe them (URDF, or MuJoCo's MJCF): links, joints and surfaces."""
