"""Ways to run work (``pipeline.build.executor.Executor``): one module each (see ``schemas.plugins``).

A module defines ``Config`` and ``build(config)``. The bytes that come out are the same for all of them.
"""
