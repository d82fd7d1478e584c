"""Training of both stages: one loop, two objectives."""
