"""The model half: backbone, Motion Expert, guidance, Action Expert, and their training."""
