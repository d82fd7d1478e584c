"""Which perturbations there are, and how a person writes them: ``camera:1``, ``light:0.5``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

AXES = {
    "camera": "the agent view goes around what it looks at: 12 degrees sidewards, 8 up or down, 8% nearer or farther",
    "light": "direction (20 degrees), strength (by 1.5), colour (by 1.2) and shadows",
    "background": "other textures of robosuite on floor, walls and table, mixed in by half; all of it at 2",
    "noise": "of the pictures: 6 grey values, and a blur of 0.5 px",
    "layout": "objects moved by up to 4 cm from where they would stand",
    "robot": "joints turned by 0.1 rad in all (root of the sum of squares)",
    "language": "the instruction in other words: of the same kind at 1, farther from it at 2 and more",
}
"""The axes, and what strength 1 does; other strengths do it in proportion."""
STRONGEST = 10.0


@dataclass(frozen=True, order=True)
class Perturbation:
    """One axis with its strength.

    Attributes:
        strength: above 0; see ``AXES``.
    """

    axis: str
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.axis not in AXES:
            raise ValueError(f"a perturbation is one of {', '.join(AXES)}, found {self.axis!r}")
        if not (math.isfinite(self.strength) and 0 < self.strength <= STRONGEST):
            raise ValueError(
                f"the strength of {self.axis} must lie above 0 and up to {STRONGEST:g}, found {self.strength}"
            )

    def __str__(self) -> str:
        return f"{self.axis}:{self.strength:g}"


def parse(words: Sequence[str]) -> tuple[Perturbation, ...]:
    """Perturbations as ``camera:1`` or ``camera``, each axis once; in the order of their names, so that those that are
    the same compare equal.

    Raises:
        ValueError: a word is none, or an axis is named twice.
    """
    found = []
    for word in words:
        axis, colon, strength = word.partition(":")
        try:
            found.append(Perturbation(axis, float(strength) if colon else 1.0))
        except ValueError as error:
            said = str(error) if axis not in AXES or "strength" in str(error) else f"{strength!r} is no strength"
            raise ValueError(f"--perturb {word}: {said}; write AXIS:STRENGTH, for example camera:1") from None
    named = [one.axis for one in found]
    if twice := [axis for axis in named if named.count(axis) > 1]:
        raise ValueError(f"--perturb names {twice[0]} twice: give it once")
    return tuple(sorted(found))


def episode_seed(seed: int, task: int, episode: int) -> int:
    """The seed of an episode's perturbations, 0 to 2^32 - 1."""
    return int(np.random.SeedSequence((seed, task, episode)).generate_state(1)[0])


def chance(seed: int, axis: str) -> np.random.Generator:
    """The generator of one axis: independent of which others there are."""
    return np.random.default_rng((seed, list(AXES).index(axis)))


def direction(drawn: np.random.Generator, size: int) -> np.ndarray:
    """A random direction, a vector of length 1: so that a strength is as strong whatever is drawn."""
    vector = drawn.normal(size=size)
    return vector / np.linalg.norm(vector)
