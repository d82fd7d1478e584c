"""What runs in the simulator's own process and Python.

It imports numpy, vla-eval and the simulator, and nothing else of LaMP, so that a simulator with old pins can stay in an
environment of its own.
"""
