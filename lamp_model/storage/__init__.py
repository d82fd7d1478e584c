"""Files of a run on disk: its folder, its checkpoints and cached features."""
