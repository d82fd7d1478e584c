"""The data factory: robot episodes become shards of (observation, instruction, 3D scene flow).

An episode goes one way: ``readers`` read it (with ``formats``), ``actions`` bring its actions into the field's form,
``windows`` label its reference frames by a source of flow (``flow_sources`` with ``trackers``, ``depth`` and
``cameras``), check them and make samples, and ``build`` stores the episodes and packs the shards. ``recipe`` holds what
decides the samples; ``evaluation`` and ``inspection`` look at what comes out.
"""
