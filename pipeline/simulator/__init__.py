"""Replay of recorded simulator states (MuJoCo): exact depth, cameras, visibility and flow.

Needs the extra ``sim`` and the meshes that the recorded model names; ``docs/simulator.md`` says how to get both.
``model`` loads models, ``rendering`` renders, ``replay`` follows points.
"""
