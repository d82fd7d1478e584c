"""Matplotlib figures as files."""

import io
from pathlib import Path
from typing import Any

from schemas.files import write_whole


def write_figure(path: Path, figure: Any, dpi: int = 110) -> None:
    """Write a figure in the format that the name ends in, whole or not at all.

    Raises:
        ValueError: matplotlib writes no such format.
        OSError: it cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lower().lstrip("."), dpi=dpi)
    write_whole(path, buffer.getvalue())
