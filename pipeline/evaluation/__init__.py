"""How true flow is: labels against exact flow, in numbers and pictures.

``truth`` names where exact flow comes from, ``scoring`` compares labels with it, ``metrics`` sums up, ``report`` and ``pictures`` show.
"""
