"""What the figures were measured on, and how often."""

import argparse
import platform
import shutil
from importlib.metadata import version
from pathlib import Path


def describe() -> str:
    """Processor, cores and the versions that matter, on one line."""
    import os

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("numpy", "opencv-python-headless", "webdataset", "zarr", "torch")
    )
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def at_least_one(text: str) -> int:
    """A number of times or things on the command line, of which there must be one.

    Raises:
        argparse.ArgumentTypeError: it is no whole number, or below 1.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, found {text}")
    return int(text)


def copies_of_an_episode_file(place: Path, count: int, source: Path) -> None:
    """Make a folder with copies of the first LIBERO file below ``source``, as a dataset of many files."""
    shipped = next(source.rglob("*_demo.hdf5"))
    place.mkdir()
    for number in range(count):
        shutil.copy(shipped, place / f"task_{number:03d}_demo.hdf5")
