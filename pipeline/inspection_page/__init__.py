"""The self-contained HTML page of ``lamp-data inspect --html``."""
