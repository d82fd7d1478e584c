"""Where the object stands that a simulated demonstration takes, from LIBERO's HDF5 files."""

import functools
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lamp_model.data.loader import Samples
from pipeline.readers._libero_model import SimulatorModel
from schemas.triplet import Source, frame_in_key

STILL_M = 0.01
"""An object that moved by less still stands where it stood."""
WANTED = re.compile(r"\(:goal.*?\((?:On|In)\s+(\S+)", re.DOTALL)
"""The first object that a BDDL file's goal puts on or into something."""


def sources_of(data: Samples, numbers: Iterable[int]) -> list[Source]:
    """Where samples are from. One of each episode is read: the others differ in the frame, which their keys tell."""
    known: dict[bytes, Source] = {}
    found = []
    for number in map(int, numbers):
        key, episode = data.index[number]["key"], data.index[number]["episode"]
        if episode not in known:
            known[episode] = data.read(number, flow=False).source
        found.append(replace(known[episode], frame=frame_in_key(key.decode())))
    return found


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
        BadEpisode: its scene is no XML.
    """
    with h5py.File(path) as file:
        data: Any = file["data"]
        wanted = WANTED.search(str(data.attrs.get("bddl_file_content", "")))
        states, model = data[episode]["states"][()], SimulatorModel(episode, data[episode].attrs["model_file"])
    positions, velocities = model.coordinates()
    if states.shape[1] != 1 + positions + velocities:
        raise ValueError(
            f"{path}, {episode}: a state has {states.shape[1]} numbers, its scene 1 + {positions} + {velocities}"
        )
    joint = f"{wanted[1]}_joint0" if wanted is not None else ""
    place = dict(model.joint_places()).get(joint)
    return None if place is None else states[:, 1 + place :][:, :3]
