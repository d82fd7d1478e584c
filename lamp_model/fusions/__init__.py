"""Fusions: how the Motion Expert's hidden state enters the backbone's features. One module is one fusion (see
``schemas.plugins``).

A module defines a frozen ``Config`` with at least ``feature_width`` and ``motion_width``, and ``build(config)``, which
returns an ``nn.Module`` that implements ``Fusion``.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float

from schemas.plugins import configure, load_plugin


@runtime_checkable
class Fusion(Protocol):
    """Adds the Motion Expert's hidden state to the features; trained in stage 2."""

    def __call__(
        self, features: Float[torch.Tensor, "B L D"], hidden: Float[torch.Tensor, "B M W"], /
    ) -> Float[torch.Tensor, "B L D"]:
        """Guided features."""
        ...


def make_fusion(name: str, options: Mapping[str, Any], feature_width: int, motion_width: int) -> Fusion:
    """A fusion between features and hidden states of these widths.

    Raises:
        ValueError: there is no such fusion, or an option does not fit.
    """
    widths = {"feature_width": feature_width, "motion_width": motion_width}
    return load_plugin(__name__, name).build(configure(__name__, name, {**options, **widths}))
