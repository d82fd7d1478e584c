"""Vision-language backbones. One module is one backbone (see ``schemas.plugins``).

A module defines a frozen ``Config`` with at least ``weights`` and ``revision``, and ``build(config)``, which returns an
``nn.Module`` of the kind ``lamp_model.features.Backbone``. Backbones are frozen; what learns stands after them.
"""
