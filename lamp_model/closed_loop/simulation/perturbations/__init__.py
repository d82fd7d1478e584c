"""Perturbations of an episode: what a policy sees, where it starts and how it is told, otherwise than in its data.

The seven axes of LIBERO-Plus, with what LIBERO and robosuite bring. Each has a strength and a seed, and says what it
drew. Collecting and evaluation use the same. ``spec`` names them, and imports nothing but numpy; ``perturber`` carries
them out, with ``places`` (layout, robot), ``views`` (camera, light, background), ``pictures`` (noise) and ``sentences``
(language).
"""
