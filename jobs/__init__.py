"""Where things are put together: both commands, the demonstration and the ways to run work."""
