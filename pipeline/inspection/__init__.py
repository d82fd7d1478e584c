"""Inspection of shards: their content, their integrity, and pictures of their flow over the image."""
