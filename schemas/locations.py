"""Paths of this machine; addresses such as ``s3://bucket/folder`` are refused until they can be read."""

import re
from pathlib import Path

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)")
"""Matches an address as typed, or as ``Path`` collapses its slashes. One letter before the colon is no address."""


def local_path(said: str | Path, name: str) -> Path:
    """A folder or file on this machine.

    Args:
        name: of the option or argument, for the message.

    Raises:
        ValueError: it is a network address.
    """
    address = ADDRESS.fullmatch(str(said))
    if address is not None:
        raise ValueError(
            f"{name} is {address[1]}://{address[2]}, and only folders and files of this machine can be used; copy it "
            "here or mount it, and give that path"
        )
    return Path(said)
