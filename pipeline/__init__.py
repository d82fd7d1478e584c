"""The data factory: robot episodes become shards of (observation, instruction, 3D scene flow).

Steps of a build: ``readers`` read an episode (with ``formats``), ``actions`` convert its actions to the standard form,
``windows`` label its reference frames with a flow source (``flow_sources`` with ``trackers``, ``depth`` and
``cameras``), check them and make samples, and ``build`` stores the episodes and packs the shards. ``recipe`` holds
everything that decides the samples; ``evaluation`` and ``inspection`` examine the results.
"""
