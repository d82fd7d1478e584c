"""Forms: how episodes lie on disk, whichever dataset they belong to.

A form knows files, records and columns and nothing of robots; a reader (``pipeline.readers``) knows which column is a
camera, a state or an action and what its numbers mean.
"""
