"""Where the object stands that a simulated demonstration takes, from LIBERO's HDF5 files."""

import functools
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import h5py
import numpy as np

STILL_M = 0.01
"""An object that moved by less still stands where it stood."""
WANTED = re.compile(r"\(:goal.*?\((?:On|In)\s+(\S+)", re.DOTALL)
"""The first object that a BDDL file's goal puts on or into something."""


def standing_at(folder: Path, file: str, episode: str, frame: int) -> np.ndarray | None:
    """Place on the table (2, metres, world) of the first object that a task's goal puts on or into something.

    Args:
        folder, file, episode, frame: of the sample, as its ``source`` names them. A frame shows what its action led to.

    Returns:
        None once it was moved, and where the goal moves no object.

    Raises:
        ValueError: the file's scene and states do not belong together.
    """
    stood = places(folder / file, episode)
    if stood is None:
        return None
    frame = min(frame + 1, len(stood) - 1)
    return None if np.linalg.norm(stood[frame] - stood[0]) > STILL_M else stood[frame, :2]


@functools.lru_cache(maxsize=512)
def places(path: Path, episode: str) -> np.ndarray | None:
    """Places (N x 3, metres, world) of that object in all states of an episode; None where there is none.

    Raises:
        ValueError: the file's scene and states do not belong together.
    """
    with h5py.File(path) as file:
        data: Any = file["data"]
        wanted = WANTED.search(str(data.attrs.get("bddl_file_content", "")))
        states, model = data[episode]["states"][()], str(data[episode].attrs["model_file"])
    addresses, coordinates, velocities = {}, 0, 0
    for joint in ET.fromstring(model).iterfind("worldbody//*"):  # depth first, as MuJoCo numbers them
        if joint.tag in ("joint", "freejoint"):
            free = joint.tag == "freejoint" or joint.get("type") == "free"
            addresses[joint.get("name")] = coordinates
            coordinates, velocities = coordinates + (7 if free else 1), velocities + (6 if free else 1)
    if states.shape[1] != 1 + coordinates + velocities:
        raise ValueError(f"{path}, {episode}: a state has {states.shape[1]} numbers, its scene 1 + {coordinates} + "
                         f"{velocities}")  # fmt: skip
    joint = f"{wanted[1]}_joint0" if wanted is not None else ""
    if joint not in addresses:
        return None
    return states[:, 1 + addresses[joint] :][:, :3]
