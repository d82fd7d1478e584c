"""Windows of an episode: resampled flow, quality checks, and the resulting triplets."""
