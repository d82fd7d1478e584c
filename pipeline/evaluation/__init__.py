"""How true flow is: labels against exact flow, in numbers and pictures.

``combinations`` are the choices compared, ``truth`` names where exact flow comes from, ``scoring`` compares labels with
it, ``metrics`` sums up, ``report`` and ``pictures`` show.
"""
