"""Small LIBERO HDF5 files in the true layout, cut from the shipped episodes, so that pixels, depth and motion are real.

``write_file`` writes good files; a defect is made by a function that changes the open file before it is closed.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.quality import QualityConfig
from pipeline.recipe import Recipe, WindowConfig
from schemas.plugins import PluginChoice
from schemas.shard_formats import open_shard

ROOT = Path(__file__).parent.parent
SHIPPED = next((ROOT / "data" / "libero" / "libero_object").glob("*_demo.hdf5"))
LENGTHS = (49, 43)
INSTRUCTION = "pick up the alphabet soup and place it in the basket"
CHUNKED = ("agentview_rgb", "eye_in_hand_rgb", "agentview_depth")
QUALITY = QualityConfig(min_steps=4, min_valid=0.0, max_holes=1.0, max_edges=1.0, max_jumps=1.0, min_moving_points=0)
"""Rejects a window for being short and for nothing else, so that these tests do not hang on how flow is judged."""
FAST = ["--stride", "4", "--horizon", "8", "--grid", "6", "--action-horizon", "4"]
FAST += ["--quality.min-steps", "4", "--quality.min-valid", "0", "--quality.max-holes", "1"]
FAST += ["--quality.max-edges", "1", "--quality.max-jumps", "1", "--quality.min-moving-points", "0"]
"""Options that make a build of these files quick; ``fast_recipe`` is the same."""

Change = Callable[[h5py.File], Any]


@dataclass(frozen=True)
class Demo:
    """A cut of a shipped episode.

    Attributes:
        number: ``demo_<number>``.
        taken: which of the two shipped episodes.
        first: its first frame.
        frames: how many.
    """

    number: int = 0
    taken: int = 0
    first: int = 0
    frames: int = 14


@cache
def shipped(taken: int) -> dict[str, Any]:
    """Arrays and attributes of a shipped episode."""
    with h5py.File(SHIPPED, "r") as file:
        demo = file[f"data/demo_{taken}"]
        arrays = {name: demo[name][:] for name in ("actions", "states", "robot_states", "rewards", "dones")}
        arrays |= {f"obs/{name}": demo["obs"][name][:] for name in demo["obs"]}
        return {"arrays": arrays, "attributes": dict(demo.attrs), "depth": dict(demo["obs/agentview_depth"].attrs)}


def write_file(path: Path, demos: Sequence[Demo] = (Demo(),), change: Change | None = None, depth: bool = True) -> Path:
    """Write a file of demos as LIBERO's ``create_dataset.py`` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_name"] = "Libero_Floor_Manipulation"
        data.attrs["problem_info"] = json.dumps({"language_instruction": INSTRUCTION})
        data.attrs["num_demos"], data.attrs["total"] = len(demos), sum(d.frames for d in demos)
        for demo in demos:
            _write_demo(data.create_group(f"demo_{demo.number}"), demo, depth)
        if change is not None:
            change(file)
    return path


def _write_demo(group: h5py.Group, demo: Demo, depth: bool) -> None:
    source = shipped(demo.taken)
    cut = slice(demo.first, demo.first + demo.frames)
    group.attrs["num_samples"] = demo.frames
    for name, value in source["attributes"].items():
        if name != "num_samples":
            group.attrs[name] = value
    for name, array in source["arrays"].items():
        last = name.removeprefix("obs/")
        if last in CHUNKED:
            if depth or last != "agentview_depth":
                chunks = (1, *array.shape[1:])
                group.create_dataset(name, data=array[cut], chunks=chunks, compression="gzip", compression_opts=1)
        else:
            group[name] = array[cut]
    if depth:
        group["obs/agentview_depth"].attrs.update(source["depth"])


def replace(file: h5py.File, name: str, values: Any, demo: str = "demo_0") -> None:
    """Put another array in the place of a demo's, its attributes kept."""
    group = file[f"data/{demo}"]
    attributes = dict(group[name].attrs) if name in group else {}
    if name in group:
        del group[name]
    group[name] = values
    group[name].attrs.update(attributes)


def fast_recipe(**changes: Any) -> Recipe:
    """The recipe of ``FAST``."""
    return Recipe(
        dataset=PluginChoice("libero"),
        windows=WindowConfig(stride=4, horizon=8, grid=6, action_horizon=4),
        quality=QUALITY,
        **changes,
    )


def samples_of(folder: Path) -> dict[str, str]:
    """SHA-256 of the bytes of every sample in a folder of tar shards, by key."""
    found = {}
    for path in sorted(folder.glob("*.tar")):
        shard = open_shard(path)
        for row in range(len(shard)):
            found[shard.index[row]["key"].decode()] = hashlib.sha256(shard.region(row)).hexdigest()
        shard.close()
    return found


def outputs_of(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a build by its name, without the work folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".lamp" not in path.relative_to(folder).parts
    }


def partials_in(folder: Path) -> list[Path]:
    """What a writer left aside."""
    return sorted(folder.rglob(".*.partial"))


def random_places(size: int, count: int, seed: int = 0) -> list[tuple[int, int]]:
    """(byte, bit) places in a file of a size."""
    rng = np.random.default_rng(seed)
    return [(int(b), int(rng.integers(8))) for b in rng.integers(size, size=count)]
