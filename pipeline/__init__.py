"""The data half: robot episodes to triplets, and triplets to shards."""
