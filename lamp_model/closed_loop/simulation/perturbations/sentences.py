"""Instructions in other words, from the templates of a file."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

TEMPLATES = Path(__file__).with_name("templates.yaml")
FAR = 1.5
"""Strength from which the kind of sentence changes too."""


def paraphrased(instruction: str, strength: float, drawn: np.random.Generator) -> str:
    """The instruction in other words; those of the file's first pattern that fits."""
    some = paraphrases(instruction, "near" if strength < FAR else "far")
    return some[int(drawn.integers(len(some)))]


def paraphrases(instruction: str, kind: str) -> list[str]:
    """All paraphrases of a kind, ``near`` or ``far``.

    Raises:
        ValueError: no pattern of the file fits.
    """
    for one in _templates():
        if found := re.fullmatch(one["pattern"], instruction):
            return [template.format(**found.groupdict()) for template in one[kind]]
    raise ValueError(f"{TEMPLATES.name} has no pattern that fits {instruction!r}")


@cache
def _templates() -> list[dict[str, Any]]:
    import yaml

    return yaml.safe_load(TEMPLATES.read_text())
