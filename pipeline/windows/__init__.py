"""Windows of an episode: resampled flow, quality checks, and the triplet that comes out."""
