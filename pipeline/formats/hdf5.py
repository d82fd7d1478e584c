"""HDF5 files of demonstrations as robosuite writes them: group ``data``, in it ``demo_<i>``, each with arrays and
attributes.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from jaxtyping import Float, Int

from pipeline.errors import UnreadableSource
from pipeline.formats.discovery import bad_name
from pipeline.formats.folder_tree import is_printable
from pipeline.formats.ref_paths import path_of
from schemas.episode import BadEpisode, EpisodeRef
from schemas.file_cache import local_file
from schemas.locations import StorePath

Node = Any
"""A group or dataset. h5py's own annotations also allow a named datatype everywhere, which has no such operations.
"""
UNREADABLE = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError)
"""The exceptions that h5py raises for a damaged or foreign file; which one depends on where the damage is."""
T = TypeVar("T")


def list_demos(dataset: str, root: Path, folder: Path) -> Iterator[EpisodeRef | UnreadableSource]:
    """Every demo of every ``*.hdf5`` in a folder; files by name, demos by number (their keys sort alphabetically)."""
    for path in sorted(p for p in folder.glob("*.hdf5") if not p.name.startswith(".")):
        source = path.relative_to(root).as_posix()
        if not is_printable(source):
            yield bad_name(source)
            continue
        try:
            stat = path.stat()
            with opened_for_names(path) as file:
                data: Node = file["data"]
                names = [n for n in data if re.fullmatch(r"demo_\d+", n)]
        except UNREADABLE as error:
            said = f"{source} is no file of demonstrations that can be opened: {plain(error)}"
            yield UnreadableSource(source, "unreadable_file", said)
            continue
        if not names:
            yield UnreadableSource(source, "no_episodes", f"{source} holds no group data/demo_<number>")
        for name in sorted(names, key=lambda n: int(n.removeprefix("demo_"))):
            yield EpisodeRef(dataset, source, name, str(path), f"{stat.st_size}-{stat.st_mtime_ns}")


@contextmanager
def opened_for_names(path: Path) -> Iterator[h5py.File]:
    """A file of which only a few names and attributes are read: of a file in a store, only those parts are fetched.

    Raises:
        StoreFailed: the store cannot be read.
    """
    if not isinstance(path, StorePath):
        with h5py.File(path, "r") as file:
            yield file
        return
    with path.open("rb") as stored:
        try:
            with h5py.File(stored, "r") as file:
                yield file
        except UNREADABLE:
            failure = getattr(stored, "failure", None)  # HDF5 has turned it into an error of its own
            if failure is not None:
                raise failure from None
            raise


def read_demo(ref: EpisodeRef, read: Callable[[Node], T], what: str = "") -> T:
    """Return the result of ``read`` on the demo's group; the file is open during the call.

    Args:
        what: names what is read, for the message.

    Raises:
        BadEpisode: the file is damaged there, or has changed.
    """
    try:
        with local_file(path_of(ref)) as here, h5py.File(here, "r") as file:
            return read(file[f"data/{ref.episode}"])
    except BadEpisode:
        raise
    except UNREADABLE as error:
        said = f"{ref.name}: {what}" if what else ref.name
        raise BadEpisode("unreadable_episode", f"{said} cannot be read: {plain(error)}") from error


def rows(stored: h5py.Dataset, frames: Int[np.ndarray, " N"] | None) -> np.ndarray:
    """The rows of some frames, in any order, or all. The rows between them are read too: HDF5 selects rows slowly."""
    if frames is None or len(frames) == 0:
        return stored[:] if frames is None else stored[:0]
    first = frames.min()
    return stored[first : frames.max() + 1][frames - first]


def read_simulation(ref: EpisodeRef, length: int) -> tuple[str, Float[np.ndarray, "T D"]]:
    """The simulator's model (MuJoCo XML) and the states that were recorded with each action.

    Raises:
        BadEpisode: they cannot be read, or there are not ``length`` states.
    """

    def read(demo: Node) -> tuple[str | bytes, np.ndarray]:
        return demo.attrs["model_file"], demo["states"][:]

    xml, states = read_demo(ref, read, "its states")
    if states.ndim != 2 or states.dtype.kind != "f" or len(states) != length:
        raise BadEpisode(
            "bad_states",
            f"{ref.name}: states must be {length} rows of numbers, one a frame, found {states.dtype} "
            f"{list(states.shape)}",
        )
    return xml.decode() if isinstance(xml, bytes) else str(xml), states.astype(np.float64)


def plain(error: BaseException) -> str:
    """The library's error message, on one line."""
    return " ".join(str(error.args[0] if error.args else error).split())
