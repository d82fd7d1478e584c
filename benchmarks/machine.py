"""What the figures were measured on."""

import platform
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
