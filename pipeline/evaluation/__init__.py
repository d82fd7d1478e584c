"""Evaluates the accuracy of flow: compares labels with exact flow, in numbers and pictures.

``sweep`` makes the combinations to compare, ``ground_truth``, ``simulator_truth`` and ``synthetic_scene`` give exact
flow, ``bodies`` and ``simulator_bodies`` tell what each point lies on, ``scoring`` compares labels with the exact flow,
``metrics`` and ``by_body`` compute the numbers, ``report`` and ``pictures`` show them.
"""
