"""Training by several processes: who they are, how they agree, and how they share a model."""
