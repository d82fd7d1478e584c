"""A whole build: list episodes, make their samples in workers, pack shards, write statistics and the manifest."""
