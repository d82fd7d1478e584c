"""Scripted controllers that solve tasks with what only the simulator knows: where everything is, and its shape.

They run in the simulator's own Python. The order of the modules: ``shapes`` (points on an object's surface), ``grasps``
(where to take it), ``arm`` (moves the hand), ``pick_place`` and the other skills, ``tasks`` (which skills solve a
task), ``environments`` (makes a task's environment) and ``demonstration`` (one attempt at it).
"""
