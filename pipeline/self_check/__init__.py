"""Checks labels of any dataset without exact flow: ``lamp-data evaluate --truth none``.

``windows`` follows the points of an episode forward, backward and with every tracker, ``background`` finds points that
can be seen to stand still, ``metrics`` pools the numbers, ``run`` goes over episodes, ``report`` and ``pictures`` show.
"""
