"""The version of the distribution ``lamp-robotics``; ``pyproject.toml`` reads it from here."""

VERSION = "0.1.0"
