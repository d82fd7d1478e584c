"""One module for each subcommand of ``lamp-data`` and ``lamp-train``."""
