"""Geometry and image processing that several rooms use:
lifting to 3D, patches, scene cuts, rigid motion, Lucas-Kanade.
"""
