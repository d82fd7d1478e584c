"""Replay of recorded simulator states (MuJoCo): exact depth, cameras, visibility and flow.

Needs the extra ``sim`` and the meshes that the recorded model names; ``docs/simulator.md`` says how to get both.
``model`` loads, ``rendering`` sees, ``replay`` follows points.
"""
