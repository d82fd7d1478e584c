"""Evaluates the accuracy of flow: compares labels with exact flow, in numbers and pictures.

``sweep`` makes the combinations to compare, ``ground_truth``, ``simulator_truth`` and ``synthetic_scene`` give exact
flow, ``scoring`` compares labels with it, ``metrics`` computes the numbers, ``report`` and ``pictures`` show them.
"""
