"""Fusions: how the Motion Expert's hidden state enters the backbone's features. One module is one fusion (see
``schemas.plugins``).

A module defines a frozen ``Config`` with at least ``feature_width`` and ``motion_width``, and ``build(config)``, which
returns an ``nn.Module`` called with (features [B, L, D], hidden [B, M, W]) that returns guided features [B, L, D].
"""
