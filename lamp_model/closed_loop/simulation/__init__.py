"""What runs in the simulator's own process and Python.

It imports numpy, vla-eval, the simulator and what these need, and nothing else of LaMP, so that one with old pins
can stay in an environment of its own. ``child`` lets a policy act there, ``demonstrator`` scripted controllers.
"""
