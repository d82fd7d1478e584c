"""Forms: how episodes are stored on disk, independent of the dataset.

The code of a form handles files, records and columns and knows nothing about robots. A reader (``pipeline.readers``)
knows which column is a camera, a state or an action and what its numbers mean.
"""
