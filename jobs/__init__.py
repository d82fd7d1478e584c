"""The top layer: both commands, the demonstration and the executors."""
