"""Evaluation in closed loop: a policy acts in a simulator, and its success rate is kept, compared and shown.

The order of the modules: ``benchmarks`` (what is evaluated) and ``protocol`` (how), ``simulation`` (what runs in the
simulator's own process), ``child`` (that process, seen from here), ``run`` (episodes over several of them), ``results``
(a line for each finished episode), then ``statistics``, ``summary``, ``comparison``, ``paper`` and ``videos``.
``trials`` keeps what was seen on a real robot. ``collecting`` and ``demonstrations`` have scripted controllers act in
place of a policy, and keep what they did.
"""
