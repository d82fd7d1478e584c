"""Vision-language backbones. One module is one backbone (see ``schemas.plugins``).

A module defines a frozen ``Config`` with at least ``weights``, ``revision`` and ``architecture_only``;
``feature_width(config)``, the width of the features, which reads no weights; and ``build(config)``, which returns a
``FrozenBackbone`` of the kind ``lamp_model.features.Backbone``. What learns stands after a backbone, or in adapters
beside its projections (``lamp_model.networks.lora``).
"""
