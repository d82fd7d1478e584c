"""Vision-language backbones. One module is one backbone (see ``schemas.plugins``).

A module defines a frozen ``Config`` with at least ``weights``, ``revision`` and ``architecture_only``;
``feature_width(config)``, the width of the features, which reads no weights; and ``build(config)``, which returns a
``FrozenBackbone`` that implements ``lamp_model.features.Backbone``. Trainable weights come after a backbone, or are
adapters beside its projections (``lamp_model.networks.lora``).
"""

from collections.abc import Mapping
from typing import Any

from lamp_model.features import Backbone
from schemas.plugins import configure, load_plugin


def make_backbone(name: str, options: Mapping[str, Any]) -> Backbone:
    """Build a backbone and load its weights.

    Raises:
        ValueError: there is no such backbone, or an option does not fit.
        MissingWeights: its weights cannot be loaded.
    """
    return load_plugin(__name__, name).build(configure(__name__, name, options))


def feature_width(name: str, options: Mapping[str, Any]) -> int:
    """D, the width of a backbone's features, from its config alone.

    Raises:
        ValueError: there is no such backbone, or an option does not fit.
        MissingWeights: its config cannot be loaded.
    """
    return load_plugin(__name__, name).feature_width(configure(__name__, name, options))
